"""The class a model decides for, also where what it returns is not a number.

TensorFlow leaves open what the largest of some NaN is: compiled it is another index
than not compiled, and NumPy takes a third one. Here it is no class at all.
"""

from typing import Any

import tensorflow as tf

# Stands for an answer that is no class: no label equals it.
NO_CLASS = -1


def decided(scores: Any) -> tf.Tensor:
    """Returns the class of the largest score, or -1 where a score is NaN.

    So an image to which a model has no answer is misclassified, whatever its label
    is, and has reached no target. An infinite score is one like any other.

    Args:
        scores: Logits or probabilities, `(batch, classes)`.

    Returns:
        Int64 tensor of shape `(batch,)`.

    Example:

    >>> decided = keras_advdef.core.decided.decided
    >>> decided([[0.0, 2.0], [np.nan, 2.0], [np.inf, 2.0]]).numpy()
    array([ 1, -1,  0])
    """
    scores = tf.convert_to_tensor(scores)
    classes = tf.argmax(scores, axis=-1, output_type=tf.int64)
    is_none = tf.reduce_any(tf.math.is_nan(scores), axis=-1)
    return tf.where(is_none, tf.constant(NO_CLASS, tf.int64), classes)


def bounded(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits whose differences and softmax are finite; NaN stays.

    Only logits beyond 1e38, in size, are changed, and no gradient passes there.

    Args:
        logits: Float32 tensor of shape `(batch, classes)`.

    Returns:
        Tensor of the same shape.

    Example:

    >>> logits = keras_advdef.core.decided.bounded(tf.constant([[np.inf, 2.0]]))
    >>> tf.nn.softmax(logits).numpy()
    array([[1., 0.]], dtype=float32)
    """
    beyond = tf.abs(logits) > _LARGEST
    return tf.where(beyond, tf.stop_gradient(tf.sign(logits) * _LARGEST), logits)


# The difference of two is a float32, too.
_LARGEST = 1e38

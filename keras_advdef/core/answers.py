"""The class that a classifier's outputs stand for, if they stand for one.

Nobody promises what the largest of some NaN is: compiled, TensorFlow takes another
index than not compiled, and NumPy takes a third one.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.model_view import viewed_model

# Stands where a class would, and is never a label.
NO_ANSWER = -1
# The difference of two is a float32, too.
_LARGEST = 1e38


def predicted_classes(outputs: Any) -> Any:
    """Returns the likeliest class of each image, for arrays and tensors alike.

    NaN is no answer: `argmax` alone takes its place for the class, which may happen to
    be the right one. So an image that gets NaN is misclassified, whatever its label,
    and has reached no target. An infinite output is one like any other.

    Args:
        outputs: Logits, probabilities or votes, `(count, classes)`.

    Returns:
        Integer array or int64 tensor `(count,)`; `NO_ANSWER` (-1) for a row with NaN.

    Example:

    >>> from keras_advdef.core.answers import predicted_classes
    >>> predicted_classes(np.array([[0.1, 0.9], [np.nan, 0.9], [np.inf, 0.9]]))
    array([ 1, -1,  0])
    """
    if not tf.is_tensor(outputs):
        classes = outputs.argmax(axis=-1)
        return np.where(np.isnan(outputs).any(axis=-1), NO_ANSWER, classes)
    classes = tf.argmax(outputs, axis=-1, output_type=tf.int64)
    is_none = tf.reduce_any(tf.math.is_nan(outputs), axis=-1)
    return tf.where(is_none, tf.constant(NO_ANSWER, tf.int64), classes)


def bounded(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits whose differences and softmax are finite; NaN stays.

    Only logits beyond 1e38, in size, are changed, and no gradient passes there.

    Args:
        logits: Float32 tensor of shape `(batch, classes)`.

    Returns:
        Tensor of the same shape.

    Example:

    >>> logits = keras_advdef.core.answers.bounded(tf.constant([[np.inf, 2.0]]))
    >>> tf.nn.softmax(logits).numpy()
    array([[1., 0.]], dtype=float32)
    """
    beyond = tf.abs(logits) > _LARGEST
    return tf.where(beyond, tf.stop_gradient(tf.sign(logits) * _LARGEST), logits)


def check_finite(
    owner: str, name: str, model: Any, is_finite: np.ndarray, *, first: int = 0
) -> None:
    """Raises if a model has no finite logits for a clean image.

    Args:
        owner: Name of the class or function that attacks.
        name: Which of its models it is.
        model: The model.
        is_finite: Whether the logits of each image are.
        first: Index of the first of these images.

    Raises:
        ValueError: If they are not.

    Example:

    >>> keras_advdef.core.answers.check_finite(
    ...     "PGD", "model", len, np.array([True, True]))
    """
    if not is_finite.all():
        index = first + int(np.argmin(is_finite))
        rule = "a model with finite logits; it gives NaN or infinity "
        rule += f"for image {index}, counted from 0"
        advice = "Repair or train the model again, or leave such images out."
        raise invalid(owner, name, rule, viewed_model(model), advice=advice)

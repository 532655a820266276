"""What logits say: the predicted class, and the margins between classes.

No framework promises which index `argmax` returns for NaN: compiled TensorFlow, eager
TensorFlow and NumPy differ. So a row with NaN predicts no class here.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.gradients import straight_through
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.model_view import unwrap_view
from keras_advdef.core.random_state import draw_scope

# Stands where a class would, and is never a label.
NO_CLASS = -1
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
        Integer array or int64 tensor `(count,)`; `NO_CLASS` (-1) for a row with NaN.

    Example:

    >>> from keras_advdef.core.predictions import predicted_classes
    >>> predicted_classes(np.array([[0.1, 0.9], [np.nan, 0.9], [np.inf, 0.9]]))
    array([ 1, -1,  0])
    """
    if not tf.is_tensor(outputs):
        classes = outputs.argmax(axis=-1)
        return np.where(np.isnan(outputs).any(axis=-1), NO_CLASS, classes)
    classes = tf.argmax(outputs, axis=-1, output_type=tf.int64)
    is_none = tf.reduce_any(tf.math.is_nan(outputs), axis=-1)
    return tf.where(is_none, tf.constant(NO_CLASS, tf.int64), classes)


def bound_logits(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits whose differences and softmax are finite; NaN stays.

    Only logits beyond 1e38, in size, are changed, and no gradient passes there.

    Args:
        logits: Float32 tensor of shape `(batch, classes)`.

    Returns:
        Tensor of the same shape.

    Example:

    >>> from keras_advdef.core.predictions import bound_logits
    >>> tf.nn.softmax(bound_logits(tf.constant([[np.inf, 2.0]]))).numpy()
    array([[1., 0.]], dtype=float32)
    """
    beyond = tf.abs(logits) > _LARGEST
    return tf.where(beyond, tf.stop_gradient(tf.sign(logits) * _LARGEST), logits)


def check_finite_logits(
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

    >>> keras_advdef.core.predictions.check_finite_logits(
    ...     "PGD", "model", len, np.array([True, True]))
    """
    if not is_finite.all():
        index = first + int(np.argmin(is_finite))
        rule = "a model with finite logits; it gives NaN or infinity "
        rule += f"for image {index}, counted from 0"
        advice = "Repair or train the model again, or leave such images out."
        raise invalid(owner, name, rule, unwrap_view(model), advice=advice)


def largest_logits(logits: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Returns the largest values of each row, the largest first.

    The gradient of `tf.math.top_k` does its index arithmetic in host memory; that of a
    maximum does not.

    Args:
        logits: Float tensor of shape `(batch, classes)`.
        count: How many, at most the number of classes.

    Returns:
        `count` tensors of shape `(batch,)`.

    Example:

    >>> logits = tf.constant([[1.0, 5.0, 3.0]])
    >>> first, second = keras_advdef.core.predictions.largest_logits(logits, 2)
    >>> float(first[0]), float(second[0])
    (5.0, 3.0)
    """
    values, rest = [], logits
    for _ in range(count):
        values.append(tf.reduce_max(rest, axis=-1))
        place = tf.argmax(rest, axis=-1)
        is_it = tf.one_hot(place, logits.shape[-1], on_value=True, off_value=False)
        rest = tf.where(is_it, logits.dtype.min, rest)
    return values


# Logits move by some 1e-6 of their size from one batch size or device to another.
_ROUNDING = 1e-5
# Passes in bfloat16, with a head in float32, move them by up to a percent.
_COARSE_ROUNDING = 2.0**-6
# The lead of an image without an answer, whatever its logits' scale.
_NO_ANSWER = 1e38
# Logits that are all zero must not count as a success.
_TINY = 1e-30


def full_precision_logits(
    logits_fn: LogitsFunction, images: tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """Returns logits of full precision, whose gradient may come from a faster pass.

    An attack that stops right behind the boundary would often stop before it if it
    saw logits rounded to bfloat16.

    Args:
        logits_fn: The attacked model.
        images: Images in `[0, 1]`.
        key: Key for the draws of a random model.

    Returns:
        Float32 tensor of shape `(batch, classes)`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(model)
    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> keras_advdef.core.predictions.full_precision_logits(
    ...     logits_fn, tf.zeros((3, 2)), key).shape
    TensorShape([3, 2])
    """
    with draw_scope(key):
        logits = logits_fn(images)
    if logits_fn.full_precision is logits_fn:
        return logits
    # The same key again, so that both passes see the same draws.
    with draw_scope(key):
        return straight_through(logits, logits_fn.full_precision(images))


def margin_over_label(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the largest logit of another class minus the logit of the label.

    Args:
        logits: Float tensor of shape `(batch, classes)`.
        labels: Integer tensor of shape `(batch,)`.

    Returns:
        Tensor of shape `(batch,)`, positive where an image is misclassified.

    Example:

    >>> keras_advdef.core.predictions.margin_over_label(
    ...     tf.constant([[2.0, 1.0, 0.0]]), tf.constant([0])).numpy().item()
    -1.0
    """
    is_label = tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False)
    lowest = logits.dtype.min
    label = tf.reduce_max(tf.where(is_label, logits, lowest), axis=-1)
    return tf.reduce_max(tf.where(is_label, lowest, logits), axis=-1) - label


def logit_margin(logits: tf.Tensor, labels: tf.Tensor, *, targeted: bool) -> tf.Tensor:
    """Returns how far the wanted class is ahead of the best other one, in logits.

    Where a model gives NaN, the label has been left, and no target been reached.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        labels: Classes to leave or to reach, `(batch,)`.
        targeted: Whether the labels are to be reached.

    Returns:
        Tensor of shape `(batch,)`, positive where the attack succeeds.

    Example:

    >>> logits = tf.constant([[2.0, 1.0, 0.0]])
    >>> from keras_advdef.core.predictions import logit_margin
    >>> [float(logit_margin(logits, tf.constant([0]), targeted=each)[0])
    ...  for each in (False, True)]
    [-1.0, 1.0]
    """
    margin = margin_over_label(bound_logits(logits), sparse_labels(labels))
    # Not left to the maximum, which passes NaN over when it is compiled.
    is_none = tf.reduce_any(tf.math.is_nan(logits), axis=-1)
    margin = tf.where(is_none, _NO_ANSWER, margin)
    return -margin if targeted else margin


def most_likely_wrong(logits: tf.Tensor, labels: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the most likely classes but the label, the most likely first.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        labels: Integer tensor of shape `(batch,)`.
        count: How many; all others, if there are no more.

    Returns:
        Integer tensor of shape `(batch, count)`, of the labels' type.

    Example:

    >>> logits = tf.constant([[2.0, 5.0, 3.0, 1.0]])
    >>> keras_advdef.core.predictions.most_likely_wrong(
    ...     logits, tf.constant([1]), 2).numpy()
    array([[2, 0]], dtype=int32)
    """
    classes = logits.shape[-1]
    is_label = tf.one_hot(labels, classes, on_value=True, off_value=False)
    wrong = tf.where(is_label, logits.dtype.min, logits)
    found = tf.math.top_k(wrong, min(count, classes - 1)).indices
    return tf.cast(found, labels.dtype)


def class_margins(
    logits: tf.Tensor, labels: tf.Tensor, classes: tf.Tensor
) -> tf.Tensor:
    """Returns how far some classes are ahead of the label, in logits.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        labels: Integer tensor of shape `(batch,)`.
        classes: The classes of each image, `(batch, count)`.

    Returns:
        Tensor of shape `(batch, count)`.

    Example:

    >>> keras_advdef.core.predictions.class_margins(
    ...     tf.constant([[5.0, 4.0, 1.0]]), tf.constant([1]), tf.constant([[2, 0]])
    ... ).numpy()
    array([[-3.,  1.]], dtype=float32)
    """
    depth = logits.shape[-1]
    contrasts = tf.one_hot(classes, depth) - tf.one_hot(labels, depth)[:, None]
    return tf.reduce_sum(contrasts * bound_logits(logits)[:, None], axis=-1)


def rounding_margin(logits: tf.Tensor, *, is_coarse: bool = False) -> tf.Tensor:
    """Returns the lead that rounding in another batch does not take away.

    A share of the largest logit, so that an attack does not depend on the scale of
    the logits. No gradient passes.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        is_coarse: Whether the logits come from a pass in bfloat16.

    Returns:
        Tensor of shape `(batch,)`, above 0.

    Example:

    >>> from keras_advdef.core.predictions import rounding_margin
    >>> least = rounding_margin(tf.constant([[-20.0, 3.0]]))
    >>> bool(1e-5 < least[0] < 1e-3)
    True
    """
    logits = bound_logits(tf.stop_gradient(logits))
    size = tf.where(tf.math.is_nan(logits), 0.0, tf.abs(logits))
    largest_logits = tf.reduce_max(size, axis=-1)
    rounding = _COARSE_ROUNDING if is_coarse else _ROUNDING
    return tf.maximum(rounding * largest_logits, _TINY)

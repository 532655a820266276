"""What logits say: the predicted class, and the margins between classes.

No framework promises which index `argmax` returns for NaN: compiled TensorFlow, eager
TensorFlow and NumPy differ. So a row with NaN predicts no class here.
"""

from typing import TypeVar

import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.gradients import straight_through
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.masked_classes import MASKED
from keras_advdef.core.model_view import unwrap_view
from keras_advdef.core.random_state import draw_scope

Outputs = TypeVar("Outputs", np.ndarray, tf.Tensor)

# In place of a class; never a label.
NO_CLASS = -1
# The difference of two such numbers still fits in float32.
_LARGEST = 1e38
# Logits differ by about 1e-6 of their size between batch sizes and devices.
_ROUNDING = 1e-5
# In bfloat16 passes with a float32 head they differ by up to one percent.
_COARSE_ROUNDING = 2.0**-6
# The margin of an image with NaN logits.
_NAN_MARGIN = 1e38
# All-zero logits must not count as a success.
_TINY = 1e-30


def predicted_classes(outputs: Outputs) -> Outputs:
    """Returns the most likely class of each image, for arrays and tensors alike.

    A row with NaN has no class: `argmax` would return the index of the NaN, which may
    happen to be the label. So such an image counts as misclassified, and as having
    reached no target. Infinite outputs are compared as usual.

    Args:
        outputs: Logits, probabilities or votes, `(count, classes)`.

    Returns:
        Integer array or int64 tensor `(count,)`, with `NO_CLASS` (-1) for rows with
        NaN.

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
    """Returns logits clipped so that their differences and softmax are finite.

    Only logits above 1e38 in absolute value change; no gradient passes through them.
    NaN stays NaN.

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
    owner: str, name: str, model: object, is_finite: np.ndarray, *, first: int = 0
) -> None:
    """Raises if a model has no finite logits for a clean image.

    Args:
        owner: Name of the class or function that attacks.
        name: The argument that holds the model.
        model: The model.
        is_finite: Boolean array: whether the logits of each image are finite.
        first: Index of the first of these images in the user's data.

    Raises:
        ValueError: If the logits of an image are not finite.

    Example:

    >>> keras_advdef.core.predictions.check_finite_logits(
    ...     "PGD", "model", len, np.array([True, True]))
    """
    if not is_finite.all():
        index = first + int(np.argmin(is_finite))
        rule = "a model with finite logits; it gives NaN or infinity "
        rule += f"for image {index}, counted from 0"
        advice = "Repair or retrain the model, or omit such images."
        raise invalid(owner, name, rule, unwrap_view(model), advice=advice)


def largest_logits(logits: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Returns the largest values of each row, in descending order.

    Unlike `tf.math.top_k`, its gradient does no index arithmetic in host memory.

    Args:
        logits: Float tensor of shape `(batch, classes)`.
        count: Number of values, at most the number of classes.

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


def full_precision_logits(
    logits_fn: LogitsFunction, images: tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """Returns full-precision logits, with gradients from the model's fast pass.

    An attack that stops just past the decision boundary needs them: with logits
    rounded to bfloat16, it would often stop short of it.

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
    # The same key, so that both passes use the same draws.
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
    """Returns the margin of an attack: the lead of the class it wants, in logits.

    Untargeted, this is the largest other logit minus that of the label; targeted, the
    opposite. NaN counts as misclassified, but reaches no target.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        labels: Classes to leave, or targets to reach, `(batch,)`.
        targeted: Whether the labels are targets.

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
    # Done explicitly: a compiled maximum ignores NaN.
    is_none = tf.reduce_any(tf.math.is_nan(logits), axis=-1)
    margin = tf.where(is_none, _NAN_MARGIN, margin)
    return -margin if targeted else margin


def most_likely_wrong(logits: tf.Tensor, labels: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the most likely wrong classes, the most likely first.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        labels: Integer tensor of shape `(batch,)`.
        count: Number of classes; fewer if the model has fewer.

    Returns:
        Integer tensor of shape `(batch, count)`, in the dtype of the labels.

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
    """Returns the margins of given classes over the label, in logits.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        labels: Integer tensor of shape `(batch,)`.
        classes: Classes for each image, `(batch, count)`.

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
    """Returns the margin that survives rounding in another batch or device.

    It is a fixed share of the largest logit, so attacks do not depend on the scale of
    the logits. Excluded classes do not count. No gradient passes through it.

    Args:
        logits: Tensor of shape `(batch, classes)`.
        is_coarse: Whether the logits come from a bfloat16 pass.

    Returns:
        Tensor of shape `(batch,)`, above 0.

    Example:

    >>> from keras_advdef.core.predictions import rounding_margin
    >>> least = rounding_margin(tf.constant([[-20.0, 3.0]]))
    >>> bool(1e-5 < least[0] < 1e-3)
    True
    """
    logits = bound_logits(tf.stop_gradient(logits))
    size = tf.where(logits > MASKED, tf.abs(logits), 0.0)
    largest = tf.reduce_max(size, axis=-1)
    rounding = _COARSE_ROUNDING if is_coarse else _ROUNDING
    return tf.maximum(rounding * largest, _TINY)

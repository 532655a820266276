"""Labels: checks of a user's arrays, and one form inside a graph."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid

# float16 rows and predictions of networks sum to 1 only approximately.
_SUM_TOLERANCE = 1e-2


def checked_labels(
    owner: str, labels: Any, *, count: int, classes: int | None
) -> np.ndarray:
    """Returns labels as integers, or raises if they do not fit the images.

    Args:
        owner: Name of the class or function that takes the labels.
        labels: Array-like of integers in `[0, classes)`, of shape `(count,)` or
            `(count, 1)`; or one row of probabilities per image, `(count, classes)`.
        count: Number of images.
        classes: Number of classes of the model, or `None` if unknown.

    Returns:
        Int64 array of shape `(count,)`: the class, or the most likely one of a row.

    Raises:
        ValueError: If shape or values do not fit, or a row is not a distribution over
            classes (all zero, several labels, NaN).

    Example:

    >>> checked = keras_advdef.core.labels.checked_labels
    >>> checked("PGD", [[0.0, 1.0], [1.0, 0.0]], count=2, classes=2)
    array([1, 0])
    """
    array = np.asarray(labels)
    is_rows = array.ndim == 2 and array.shape[1] > 1
    is_number = array.dtype.kind in "fiub"
    if is_rows and is_number and array.shape == (count, classes or array.shape[1]):
        return _most_likely(owner, array)
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.shape != (count,) or array.dtype.kind not in "fiu":
        rows = f"({count}, {classes or 'classes'})"
        rule = f"of shape ({count},) with integers, or {rows} one-hot"
        raise invalid(owner, "labels", rule, array)
    with np.errstate(invalid="ignore"):
        integers = array.astype(np.int64)
    if not np.array_equal(integers, array):
        raise invalid(owner, "labels", "whole numbers", array)
    most = np.iinfo(np.int64).max if classes is None else classes
    if integers.min() < 0 or integers.max() >= most:
        wrong = int(integers[(integers < 0) | (integers >= most)][0])
        bound = "at least 0" if classes is None else f"in [0, {classes})"
        raise invalid(owner, "labels", f"{bound}, the classes of the model", wrong)
    return integers


def _most_likely(owner: str, rows: np.ndarray) -> np.ndarray:
    """Returns the most likely class of each row of probabilities."""
    values = rows.astype(np.float64)
    is_share = np.abs(values.sum(axis=1) - 1.0) <= _SUM_TOLERANCE
    # NaN fails both comparisons.
    fits = is_share & (values >= 0.0).all(axis=1)
    if not fits.all():
        index = int(np.flatnonzero(~fits)[0])
        rule = f"rows that sum to 1 over the classes; row {index} does not"
        advice = "Give each image one class, or probabilities of the classes: "
        advice += "an image with several labels, or none, cannot be attacked."
        raise invalid(owner, "labels", rule, rows[index].tolist(), advice=advice)
    return values.argmax(axis=1)


def checked_class_labels(
    owner: str, labels: Any, *, count: int, classes: int | None
) -> np.ndarray:
    """Returns the class of each label, or raises if a label is not one class.

    Args:
        owner: Name of the class or function that takes the labels.
        labels: Array-like of shape `(count,)` or `(count, 1)` with integers, or
            `(count, classes)` one-hot.
        count: Number of images.
        classes: Number of classes of the model, or `None` if unknown.

    Returns:
        Int64 array of shape `(count,)`.

    Raises:
        ValueError: If shape or values do not fit, or a row is a soft label, which can
            train a model but cannot say whether a prediction is right.

    Example:

    >>> from keras_advdef.core.labels import checked_class_labels
    >>> checked_class_labels("certify", [[0, 1], [1, 0]], count=2, classes=2)
    array([1, 0])
    """
    array = np.asarray(labels)
    found = checked_labels(owner, array, count=count, classes=classes)
    if array.ndim == 2 and array.shape[1] > 1:
        largest = array.max(axis=1)
        if (largest != 1).any():
            rule = "one class per image, since correct predictions are counted"
            advice = "Pass `labels.argmax(axis=1)` to count the most likely class."
            soft = array[int(np.argmax(largest != 1))].tolist()
            raise invalid(owner, "labels", rule, soft, advice=advice)
    return found


def sparse_labels(labels: Any) -> tf.Tensor:
    """Returns integer labels for integer or one-hot labels, told apart by rank.

    Args:
        labels: Tensor of shape `(batch,)`, `(batch, 1)` or `(batch, classes)`.

    Returns:
        Tensor of shape `(batch,)`, int64.

    Example:

    >>> keras_advdef.core.labels.sparse_labels([[0.0, 1.0]]).numpy()
    array([1])
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 1:
        return tf.cast(labels, tf.int64)
    if labels.shape[-1] == 1:
        return tf.cast(labels[:, 0], tf.int64)
    return tf.argmax(labels, axis=-1, output_type=tf.int64)


def soft_labels(labels: Any) -> tf.Tensor:
    """Returns rows of probabilities unchanged, and all other labels as integers.

    Args:
        labels: Tensor of shape `(batch,)`, `(batch, 1)` or `(batch, classes)`.

    Returns:
        Float32 tensor `(batch, classes)`, or int64 tensor `(batch,)` if every row is
        known to name a single class.

    Example:

    >>> soft_labels = keras_advdef.core.labels.soft_labels
    >>> soft_labels([[0.25, 0.75]]).numpy()
    array([[0.25, 0.75]], dtype=float32)
    >>> soft_labels([[0.0, 1.0]]).numpy()
    array([1])
    """
    labels = tf.convert_to_tensor(labels)
    is_rows = labels.shape.rank == 2 and labels.shape[-1] != 1
    if not is_rows or not labels.dtype.is_floating:
        return sparse_labels(labels)
    rows = tf.cast(labels, tf.float32)
    if tf.executing_eagerly() and np.isin(rows.numpy(), (0.0, 1.0)).all():
        return sparse_labels(labels)
    return rows

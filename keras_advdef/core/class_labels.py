"""Labels to count right answers by: one class for each image."""

from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.value_range import checked_labels


def class_labels(
    owner: str, labels: Any, *, count: int, classes: int | None
) -> np.ndarray:
    """Returns the class that each label names, or raises if one names none.

    Args:
        owner: Name of the class or function that takes the labels.
        labels: Array-like of shape `(count,)` or `(count, 1)` with integers, or
            `(count, classes)` one-hot.
        count: Number of images.
        classes: Number of classes of the model, `None` if it is not known.

    Returns:
        Array of shape `(count,)`, int64.

    Raises:
        ValueError: If shape or values do not fit, or a row names several classes in
            part, which trains a model but says of no answer that it is right.

    Example:

    >>> from keras_advdef.core.class_labels import class_labels
    >>> class_labels("certify", [[0, 1], [1, 0]], count=2, classes=2)
    array([1, 0])
    """
    array = np.asarray(labels)
    found = checked_labels(owner, array, count=count, classes=classes)
    if array.ndim == 2 and array.shape[1] > 1:
        largest = array.max(axis=1)
        if (largest != 1).any():
            rule = "one class per image, since right answers are counted"
            advice = "Pass `labels.argmax(axis=1)` to count the likeliest class."
            soft = array[int(np.argmax(largest != 1))].tolist()
            raise invalid(owner, "labels", rule, soft, advice=advice)
    return found

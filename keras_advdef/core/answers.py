"""The class that a classifier's outputs stand for, if they stand for one."""

import numpy as np

# Stands where a class would, and is never a label.
NO_ANSWER = -1


def predicted_classes(outputs: np.ndarray) -> np.ndarray:
    """Returns the likeliest class of each image.

    NaN is no answer: `argmax` alone takes its place for the class, which may happen to
    be the right one.

    Args:
        outputs: Logits, probabilities or votes, `(count, classes)`.

    Returns:
        Integer array `(count,)`; `NO_ANSWER` (-1) for a row with NaN.

    Example:

    >>> from keras_advdef.core.answers import predicted_classes
    >>> predicted_classes(np.array([[0.1, 0.9], [np.nan, 0.9]]))
    array([ 1, -1])
    """
    classes = outputs.argmax(axis=-1)
    return np.where(np.isnan(outputs).any(axis=-1), NO_ANSWER, classes)

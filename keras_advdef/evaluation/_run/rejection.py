"""find_rejection: whether a model has a class for attacked images."""

import dataclasses

import numpy as np

# A class without labels is a detector if this share of the moved images goes to it.
_SHARE = 0.5
_IMAGES_PER_CLASS = 7


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A class for attacked images.

    Attributes:
        label: The class, or `None` if the model has none.
        share: Share of the images moved by the naive attack that went to the last
            class.
    """

    label: int | None
    share: float


def find_rejection(
    predicted: np.ndarray,
    labels: np.ndarray,
    *,
    clean_logits: np.ndarray,
    all_labels: np.ndarray,
    is_declared: bool,
) -> Rejection:
    """Returns the class that a model gives to images it detects as attacked.

    This is its last class, if the model declares so, or if no clean image and no label
    has this class but most images moved by the naive attack go to it.

    Args:
        predicted: The predictions for naively attacked images.
        labels: Their true classes.
        clean_logits: Logits of all clean images, `(count, classes)`.
        all_labels: The true classes of all images.
        is_declared: Whether the model declares its last class as such.

    Example:

    >>> from keras_advdef.evaluation._run.rejection import find_rejection
    >>> labels = np.arange(40) % 2
    >>> find_rejection(
    ...     np.full(40, 2), labels, clean_logits=np.eye(3)[labels], all_labels=labels,
    ...     is_declared=False)
    Rejection(label=2, share=1.0)
    """
    last = clean_logits.shape[1] - 1
    moved = predicted != labels
    share = float((predicted[moved] == last).mean()) if moved.any() else 0.0
    is_met = last in all_labels or last in clean_logits.argmax(axis=-1)
    # With equally frequent classes, this many images miss one only once in a thousand.
    is_sure = len(all_labels) >= _IMAGES_PER_CLASS * (last + 1)
    is_found = share > _SHARE and last > 1 and is_sure and not is_met
    return Rejection(last if is_declared or is_found else None, share)

"""find_rejection: whether a model has a class for attacked images."""

import dataclasses
from collections.abc import Callable

import numpy as np

# A class without labels is a detector if this share of the moved images goes to it,
_SHARE = 0.5
# and more than that of those of most true classes, of which there are several.
_CLASSES = 0.75
_FEWEST_CLASSES = 3
# The images have to tell: of some of each class, a few classes may be missing.
_IMAGES_PER_CLASS = 7
_COVERED = 0.9


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
    heedless: Callable[[], np.ndarray],
) -> Rejection:
    """Returns the class that a model gives to images it detects as attacked.

    This is its last class if the model declares so. Otherwise no label and no clean
    image has it, although the images are of all other classes, and yet it catches most
    images that attacks moved, from most classes: also where the attack ignores its
    logit and so moves towards another class. Without that, it may be a class whose
    images are missing, and that is the nearest one.

    Args:
        predicted: The predictions for naively attacked images.
        labels: Their true classes.
        clean_logits: Logits of all clean images, `(count, classes)`.
        all_labels: The true classes of all images.
        is_declared: Whether the model declares its last class as such.
        heedless: Returns the predictions for the same images under an attack that
            ignores the logit of a class. It is called only if the rest speaks for it.

    Example:

    >>> from keras_advdef.evaluation._run.rejection import find_rejection
    >>> labels = np.arange(60) % 3
    >>> find_rejection(
    ...     np.full(60, 3), labels, clean_logits=np.eye(4)[labels], all_labels=labels,
    ...     is_declared=False, heedless=lambda: np.full(60, 3))
    Rejection(label=3, share=1.0)
    """
    last = clean_logits.shape[1] - 1
    moved = predicted != labels
    share = float((predicted[moved] == last).mean()) if moved.any() else 0.0
    if is_declared:
        return Rejection(last, share)
    is_met = last in all_labels or last in clean_logits.argmax(axis=-1)
    is_covered = len(np.unique(all_labels)) >= _COVERED * last
    is_sure = is_covered and len(all_labels) >= _IMAGES_PER_CLASS * (last + 1)
    is_found = (
        is_sure
        and not is_met
        and _catches(last, predicted, labels)
        and _catches(last, heedless(), labels)
    )
    return Rejection(last if is_found else None, share)


def _catches(label: int, predicted: np.ndarray, labels: np.ndarray) -> bool:
    """Returns whether a class gets most moved images, from most of several classes."""
    moved = predicted != labels
    caught = predicted[moved] == label
    sources = labels[moved]
    classes = np.unique(sources)
    if len(classes) < _FEWEST_CLASSES or caught.mean() <= _SHARE:
        return False
    shares = np.array([caught[sources == each].mean() for each in classes])
    return bool((shares > _SHARE).mean() >= _CLASSES)

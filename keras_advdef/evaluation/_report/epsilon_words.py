"""Epsilons as readers know them: n/255 of the pixel range, and in words."""

from collections.abc import Sequence

_LEVELS = 255
# The largest change of one pixel is told in levels; other norms sum over pixels.
_OF_PIXELS = "linf"


def epsilon_label(epsilon: float, norm: str, value_range: Sequence[float]) -> str:
    """Returns an epsilon for an axis, a table or a picture.

    Args:
        epsilon: In the units of the value range.
        norm: Its norm.
        value_range: Lowest and highest pixel.

    Example:

    >>> from keras_advdef.evaluation._report.epsilon_words import epsilon_label
    >>> epsilon_label(8 / 255, "linf", (0, 1)), epsilon_label(8, "linf", (0, 255))
    ('8/255', '8/255')
    >>> epsilon_label(0.1, "linf", (0, 1)), epsilon_label(0.5, "l2", (0, 1))
    ('25.5/255', '0.5')
    """
    span = value_range[1] - value_range[0]
    if norm != _OF_PIXELS or span <= 0 or not epsilon:
        return f"{epsilon:.4g}"
    levels = epsilon / span * _LEVELS
    return f"{levels:.3g}/{_LEVELS}" if levels < 1000 else f"{epsilon:.4g}"


def attacker_words(epsilon: float, norm: str, value_range: Sequence[float]) -> str:
    """Returns what an attacker may do, as the end of a sentence.

    Args:
        epsilon: In the units of the value range.
        norm: Its norm.
        value_range: Lowest and highest pixel.

    Example:

    >>> from keras_advdef.evaluation._report.epsilon_words import attacker_words
    >>> attacker_words(8 / 255, "linf", (0, 1))
    'who may change every pixel by up to 8 of 255 levels'
    """
    label = epsilon_label(epsilon, norm, value_range)
    if norm == _OF_PIXELS:
        levels, _, most = label.partition("/")
        much = f"{levels} of {most} levels" if most else label
        return f"who may change every pixel by up to {much}"
    low, high = value_range
    pixels = f"{norm} norm of up to {label}, for pixels from {low:g} to {high:g}"
    return f"who may change the image by an {pixels}"

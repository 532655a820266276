"""Tests of significance of the checks, and their correction for their number."""

from collections.abc import Callable, Mapping

import numpy as np

# With fewer images, no difference between two attacks can be significant.
FEWEST = 10
# One attack is clearly stronger than another if it breaks this share of the images
# more, and not by chance.
_CLEARLY = 0.03
_ALONE = 0.01
# Chance that any check of an honest model fails.
_CHANCE = 0.02

_Test = Callable[..., float]


def sign_test(strong: np.ndarray, weak: np.ndarray) -> float:
    """Returns how likely it is by chance that one attack broke so many more images.

    This is an exact one-sided sign test on the images that only one of them broke.

    Args:
        strong: Which images the first attack broke, booleans.
        weak: Which images the second attack broke, booleans.

    Example:

    >>> from keras_advdef.evaluation._verdict.p_values import sign_test
    >>> sign_test(np.arange(100) < 13, np.arange(100) < 10)
    0.125
    """
    return share_test(strong[strong != weak], 0.5)


def clear_chance(strong: np.ndarray, weak: np.ndarray) -> float:
    """Returns the same chance, or 1 if the difference is too small to matter.

    Args:
        strong: Which images the first attack broke, booleans.
        weak: Which images the second attack broke, booleans.

    Example:

    >>> from keras_advdef.evaluation._verdict.p_values import clear_chance
    >>> clear_chance(np.arange(100) < 13, np.arange(100) < 10)
    1.0
    """
    more = int((strong & ~weak).sum()) - int((weak & ~strong).sum())
    return 1.0 if more <= _CLEARLY * len(strong) else sign_test(strong, weak)


def clearly_more(strong: np.ndarray, weak: np.ndarray) -> bool:
    """Returns whether one attack alone broke clearly more images than another.

    Args:
        strong: Which images the first attack broke, booleans.
        weak: Which images the second attack broke, booleans.

    Example:

    >>> from keras_advdef.evaluation._verdict.p_values import clearly_more
    >>> clearly_more(np.arange(100) < 20, np.arange(100) < 5)
    True
    >>> clearly_more(np.arange(100) < 7, np.arange(100) < 5)
    False
    """
    return clear_chance(strong, weak) < _ALONE


def share_test(flagged: np.ndarray, usual: float) -> float:
    """Returns how likely it is by chance that so many images are flagged.

    Args:
        flagged: Which images are, booleans.
        usual: The share that is flagged on honest models.

    Example:

    >>> from keras_advdef.evaluation._verdict.p_values import share_test
    >>> round(share_test(np.arange(2) < 1, 0.5), 6)
    0.75
    """
    from scipy.stats import binomtest

    if not len(flagged):
        return 1.0
    test = binomtest(int(flagged.sum()), len(flagged), usual, alternative="greater")
    return float(test.pvalue)


def overall_or_class(
    test: _Test, labels: np.ndarray, *measured: np.ndarray
) -> tuple[float, int | None]:
    """Tests all images together and each class alone.

    What hides one class alone is little among all images.

    Args:
        test: Returns the chance of what was measured on some images.
        labels: The classes of the images.
        *measured: What `test` takes, one value for each image.

    Returns:
        The smallest chance, corrected for the number of tests, and the class it belongs
        to, `None` for all images.

    Example:

    >>> from keras_advdef.evaluation._verdict.p_values import overall_or_class
    >>> labels = np.arange(60) % 3
    >>> chance, label = overall_or_class(
    ...     lambda flags: 1e-6 if flags.all() else 0.5, labels, labels == 2)
    >>> round(chance, 8), label
    (6e-06, 2)
    """
    overall = test(*measured)
    classes = np.unique(labels)
    alone = [test(*(each[labels == label] for each in measured)) for label in classes]
    least = min(alone, default=1.0) * len(classes)
    if overall <= least:
        return min(1.0, 2.0 * overall), None
    return min(1.0, 2.0 * least), int(classes[int(np.argmin(alone))])


def significant(chances: Mapping[str, float]) -> set[str]:
    """Returns the tests that are significant together (Holm 1979).

    Args:
        chances: For each test, how likely its result is by chance.

    Example:

    >>> from keras_advdef.evaluation._verdict.p_values import significant
    >>> sorted(significant({"a": 1e-9, "b": 0.019, "c": 0.5}))
    ['a']
    """
    found = set()
    for place, name in enumerate(sorted(chances, key=chances.__getitem__)):
        if chances[name] > _CHANCE / (len(chances) - place):
            break
        found.add(name)
    return found

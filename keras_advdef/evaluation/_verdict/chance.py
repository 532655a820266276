"""Whether a model's answers have anything to do with the images."""

from collections.abc import Sequence

import numpy as np

from keras_advdef.evaluation._verdict.check import Check

_NAME = "better_than_chance"
# An answer without knowledge is taken for better than that once in forty times.
_LUCK = 0.025
# Of the way from chance to no mistake. A model that has come so far is a good one, on
# however few images that was seen.
_FAR = 0.5


def better_than_chance(predicted: np.ndarray, labels: np.ndarray) -> Check:
    """Returns the check whether clean images are right more often than by chance.

    Chance is what the same answers in another order would give (as in Cohen 1960, "A
    coefficient of agreement for nominal scales"). So a model that gives one class to
    every image is at chance, however frequent that class is.

    Args:
        predicted: The model's answers to clean images, `(count,)`.
        labels: The true classes, `(count,)`.

    Example:

    >>> from keras_advdef.evaluation._verdict.chance import better_than_chance
    >>> labels = np.arange(100) % 10
    >>> better_than_chance(np.zeros(100, int), labels).passed
    False
    """
    from scipy.stats import binomtest

    count = len(labels)
    answers, truth = (
        np.unique(each, return_counts=True) for each in (predicted, labels)
    )
    reason = "the model is at chance"
    if len(truth[0]) == 1:
        detail = "Not run: the images are of one class only."
        return Check(name=_NAME, passed=None, detail=detail, reason=reason)
    met, places, others = np.intersect1d(answers[0], truth[0], return_indices=True)
    frequencies = answers[1][places] / count, truth[1][others] / count
    chance = float(np.dot(*frequencies)) if len(met) else 0.0
    correct = int((predicted == labels).sum())
    luck = binomtest(correct, count, chance, alternative="greater").pvalue
    is_far = correct / count - chance >= _FAR * (1.0 - chance)
    detail = (
        f"{correct} of {count} clean images are right; the same answers in another "
        f"order would have {chance * count:.1f} right."
    )
    if len(answers[0]) == 1:
        reason += f", it answers class {answers[0][0]} to every image"
    return Check(
        name=_NAME,
        passed=bool(luck < _LUCK or is_far),
        detail=detail,
        reason=f"{reason}: wrong `value_range`, wrong labels, or untrained?",
    )


def is_at_chance(checks: Sequence[Check]) -> bool:
    """Returns whether a model was found to be at chance.

    Args:
        checks: The verdicts of an evaluation.
    """
    return any(check.name == _NAME and check.passed is False for check in checks)

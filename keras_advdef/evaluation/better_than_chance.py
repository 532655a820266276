"""better_than_chance: whether a model's predictions depend on the images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_advdef.core.errors import invalid
from keras_advdef.evaluation.check import Check

_NAME = "better_than_chance"
# Significance level: a guessing model passes once in forty evaluations.
_LUCK = 0.025
# A share of the way from chance to a perfect score. A model that gets this far passes
# even on a few images, where the test has no power.
_FAR = 0.5


def better_than_chance(predicted: ArrayLike, labels: ArrayLike) -> Check:
    """Checks whether a model classifies clean images better than chance.

    Chance is the expected accuracy of the same predictions in random order (as in
    Cohen 1960, "A coefficient of agreement for nominal scales"). A model that predicts
    one class for every image is therefore at chance, however frequent that class is.

    Args:
        predicted: The model's predictions for clean images, `(count,)`.
        labels: The true classes, `(count,)`.

    Returns:
        A `Check` named "better_than_chance".

    Raises:
        ValueError: If there are no labels, or not one prediction for each.

    Example:

    >>> labels = np.arange(100) % 10
    >>> keras_advdef.evaluation.better_than_chance(
    ...     np.zeros(100, int), labels).passed
    False
    """
    from scipy.stats import binomtest

    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or labels.ndim != 1 or not labels.size:
        rule = f"one class for each of the labels, of shape {labels.shape}"
        raise invalid(_NAME, "predicted", rule, predicted)
    count = len(labels)
    answers, truth = (
        np.unique(each, return_counts=True) for each in (predicted, labels)
    )
    reason = "the model is at chance"
    if len(truth[0]) == 1:
        detail = "Not run: all images belong to one class."
        return Check(name=_NAME, passed=None, detail=detail, reason=reason)
    met, places, others = np.intersect1d(answers[0], truth[0], return_indices=True)
    frequencies = answers[1][places] / count, truth[1][others] / count
    chance = float(np.dot(*frequencies)) if len(met) else 0.0
    correct = int((predicted == labels).sum())
    luck = binomtest(correct, count, chance, alternative="greater").pvalue
    is_far = correct / count - chance >= _FAR * (1.0 - chance)
    detail = (
        f"{correct} of {count} clean images are classified correctly; shuffled "
        f"predictions would get {chance * count:.1f} on average."
    )
    if len(answers[0]) == 1:
        reason += f", predicting class {answers[0][0]} for every image"
    return Check(
        name=_NAME,
        passed=bool(luck < _LUCK or is_far),
        detail=detail,
        reason=f"{reason}: wrong `value_range`, wrong labels, or not trained?",
    )


def is_at_chance(checks: Sequence[Check]) -> bool:
    """Returns whether a model was found to be at chance.

    Args:
        checks: The verdicts of an evaluation.
    """
    return any(check.name == _NAME and check.passed is False for check in checks)

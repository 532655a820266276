"""An accuracy with its uncertainty."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

_CONFIDENCE = 0.95
_NORMAL_QUANTILE = 1.959963984540054


@dataclasses.dataclass(frozen=True)
class AccuracyEstimate:
    """An accuracy on some images, with its 95 % Clopper-Pearson interval.

    The interval covers the accuracy on further images of the same kind. It says
    nothing about other attacks or other training seeds.

    For a random model the number of correct images is a mean over draws. If the images
    share their draws, as those of a batch may, the interval is that of fewer images
    whose accuracy is as uncertain (Korn and Graubard 1998, "Confidence intervals for
    proportions with small expected number of positive counts").

    Args:
        correct: Number of images classified correctly; a fraction for a mean.
        count: Number of images.
        effective: Number of images that stand for the uncertainty, `None` for all.

    Example:

    >>> from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
    >>> str(AccuracyEstimate(90, 100))
    '90.0 % [82.4, 95.1]'
    """

    correct: float
    count: int
    effective: float | None = None

    @classmethod
    def over_draws(cls, wrong: np.ndarray) -> "AccuracyEstimate":
        """Returns the mean accuracy over several draws of a random model.

        Args:
            wrong: Which images are misclassified in each draw, `(draws, count)`.
        """
        count, right = wrong.shape[1], 1.0 - wrong
        mean, variance = float(right.mean()), _variance(right)
        effective = mean * (1.0 - mean) / variance if variance else count
        return cls(mean * count, count, min(float(count), effective))

    @classmethod
    def of_wrong(cls, wrong: np.ndarray) -> "AccuracyEstimate":
        """Returns the estimate for images of which a random model gets some wrong.

        Args:
            wrong: Share of the draws in which each image is misclassified.
        """
        return cls(float((1.0 - wrong).sum()), len(wrong))

    @property
    def accuracy(self) -> float:
        """Share of images classified correctly, in `[0, 1]`."""
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval, in `[0, 1]`."""
        count = self.count if self.effective is None else self.effective
        return _interval(min(self.accuracy, 1.0) * count, count)

    def __str__(self) -> str:
        return percent(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Returns the estimate as JSON values."""
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "count": self.count,
        }


@functools.lru_cache(maxsize=1024)
def _interval(correct: float, count: float) -> tuple[float, float]:
    # Imported here: `scipy` is slow to import.
    from scipy.special import betaincinv

    wrong, tail = count - correct, (1.0 - _CONFIDENCE) / 2.0
    low = betaincinv(correct, wrong + 1.0, tail) if correct else 0.0
    high = betaincinv(correct + 1.0, wrong, 1.0 - tail) if wrong > 0.0 else 1.0
    return float(low), float(high)


def _variance(right: np.ndarray) -> float:
    """Returns the variance of a mean over images and draws that are crossed.

    The draws count by how much their means differ more than independent answers would.
    """
    from scipy.special import stdtrit

    draws, count = right.shape
    if draws < 2 or count < 2:
        return 0.0
    per_image, per_draw = right.mean(axis=0), right.mean(axis=1)
    rest = right - per_image - per_draw[:, None] + right.mean()
    chance = float((rest**2).sum()) / ((draws - 1) * (count - 1)) / right.size
    excess = max(0.0, float(per_draw.var(ddof=1)) / draws - chance)
    # A few draws tell their own variance only roughly.
    few = float(stdtrit(draws - 1, 0.5 + _CONFIDENCE / 2.0)) / _NORMAL_QUANTILE
    return float(per_image.var()) / count + few**2 * excess


def percent(estimate: dict[str, Any]) -> str:
    """Formats an accuracy and its interval in percent.

    Args:
        estimate: A dictionary with the keys `accuracy` and `interval`.

    Example:

    >>> from keras_advdef.evaluation.accuracy_estimate import percent
    >>> percent({"accuracy": 0.9, "interval": [0.82, 0.95]})
    '90.0 % [82.0, 95.0]'
    """
    low, high = estimate["interval"]
    return f"{100 * estimate['accuracy']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def paired_difference(
    correct: np.ndarray, reference: np.ndarray
) -> tuple[float, tuple[float, float]]:
    """Returns the change in accuracy on the same images, with a 95 % interval.

    The interval follows Agresti and Min 2005, "Simple improved confidence intervals
    for comparing matched proportions": half an image is added to each of the four
    outcomes of the pair.

    Args:
        correct: Which images the model classifies correctly.
        reference: Which images the reference classifies correctly.

    Example:

    >>> from keras_advdef.evaluation.accuracy_estimate import paired_difference
    >>> right, before = np.arange(100) < 80, np.arange(100) < 90
    >>> change, (low, high) = paired_difference(right, before)
    >>> round(change, 3), round(low, 3), round(high, 3)
    (-0.1, -0.159, -0.037)
    """
    count = len(correct) + 2.0
    gained = float((correct & ~reference).sum()) + 0.5
    lost = float((~correct & reference).sum()) + 0.5
    change = (gained - lost) / count
    spread = math.sqrt((gained + lost) / count - change**2) / math.sqrt(count)
    reach = _NORMAL_QUANTILE * spread
    exact = float(correct.mean() - reference.mean())
    return exact, (max(-1.0, change - reach), min(1.0, change + reach))

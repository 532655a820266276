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

    Args:
        correct: Number of images classified correctly.
        count: Number of images.

    Example:

    >>> from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
    >>> str(AccuracyEstimate(90, 100))
    '90.0 % [82.4, 95.1]'
    """

    correct: int
    count: int

    @classmethod
    def of_wrong(cls, wrong: np.ndarray) -> "AccuracyEstimate":
        """Returns the estimate for images of which a random model gets some wrong.

        Args:
            wrong: Share of the draws in which each image is misclassified.
        """
        return cls(round(float((1.0 - wrong).sum())), len(wrong))

    @property
    def accuracy(self) -> float:
        """Share of images classified correctly, in `[0, 1]`."""
        return self.correct / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval, in `[0, 1]`."""
        return _interval(self.correct, self.count)

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
def _interval(correct: int, count: int) -> tuple[float, float]:
    # Imported here, as in `sanity_checks`: `scipy.stats` is slow to import.
    from scipy.stats import binomtest

    interval = binomtest(correct, count).proportion_ci(
        confidence_level=_CONFIDENCE, method="exact"
    )
    return float(interval.low), float(interval.high)


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

"""Judgements: what several fresh draws of a random model say about each image."""

import dataclasses
from typing import Any

import numpy as np

from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate


@dataclasses.dataclass(frozen=True, eq=False)
class Judgements:
    """The three accuracies of a model that answers differently from draw to draw.

    Args:
        wrong: Which images are misclassified in each draw, booleans `(draws, count)`.

    Example:

    >>> from keras_advdef.evaluation._verdict.judgements import Judgements
    >>> judged = Judgements(np.array([[0, 0, 1, 1], [0, 0, 0, 1], [0, 1, 0, 1]], bool))
    >>> judged.mean.accuracy, judged.worst.accuracy, judged.majority.accuracy
    (0.5833333333333334, 0.25, 0.75)
    """

    wrong: np.ndarray

    @property
    def draws(self) -> int:
        """Number of draws."""
        return len(self.wrong)

    @property
    def mean(self) -> AccuracyEstimate:
        """The accuracy of one answer: the share of draws and images that are right.

        Its interval covers further images and further draws, also where all images of
        a batch share their draws.
        """
        return AccuracyEstimate.over_draws(self.wrong)

    @property
    def worst(self) -> AccuracyEstimate:
        """The share of images that are right in every draw."""
        return self._share(np.logical_not(self.wrong).all(axis=0))

    @property
    def majority(self) -> AccuracyEstimate:
        """The share of images that are right in more than half of the draws."""
        return self._share(self.wrong.sum(axis=0) < self.draws / 2)

    def _share(self, right: np.ndarray) -> AccuracyEstimate:
        return AccuracyEstimate(int(right.sum()), len(right))

    def to_json(self) -> dict[str, Any]:
        """Returns the accuracies as JSON values."""
        return {
            "draws": self.draws,
            "evaluations": [float(each) for each in 1.0 - self.wrong.mean(axis=1)],
            "mean": self.mean.to_json(),
            "worst": self.worst.to_json(),
            "majority": self.majority.to_json(),
        }

    def __str__(self) -> str:
        return (
            f"the mean of {self.draws} fresh draws of the model for each image "
            f"(right in all of them: {self.worst}; by majority vote: {self.majority})"
        )

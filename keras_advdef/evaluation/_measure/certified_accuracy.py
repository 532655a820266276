"""CertifiedAccuracy: images that no perturbation within epsilon can change."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.certify_intervals import certify_intervals

# If none of so many images is certified, the model was not trained for it.
_TRIED = 32
# Of models that bounds cannot follow, or devices without such an operation in float64.
_IN_THE_WAY = (ValueError, TypeError, NotImplementedError, tf.errors.OpError)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedAccuracy:
    """The share of images certified within epsilon.

    Attributes:
        epsilon: In the units of the images.
        by_image: Whether each image is right and certified.
    """

    epsilon: float
    by_image: np.ndarray

    @property
    def estimate(self) -> AccuracyEstimate:
        """The share, with its interval."""
        return AccuracyEstimate(int(self.by_image.sum()), len(self.by_image))

    def to_json(self) -> dict[str, Any]:
        """Returns the share as JSON values."""
        return {
            "method": "certify_intervals",
            "norm": "linf",
            "epsilon": self.epsilon,
            **self.estimate.to_json(),
        }


def measure_certified_accuracy(
    request: Request, labels: np.ndarray, ledger: Ledger
) -> CertifiedAccuracy | None:
    """Returns the certified accuracy by intervals in linf, or `None` without any.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        ledger: Stores finished parts.
    """
    model = request.evaluated.model
    if not isinstance(model, keras.Model) or request.norm != "linf":
        return None

    def certify() -> Arrays:
        try:
            return {"certified": _certified(model, request, labels)}
        except _IN_THE_WAY:
            return {"certified": np.zeros(0, bool)}

    found = ledger.part("certified_within", certify, "the certificates in linf")
    certified = found["certified"]
    if not certified.any():
        return None
    return CertifiedAccuracy(epsilon=request.epsilon, by_image=certified)


def _certified(model: keras.Model, request: Request, labels: np.ndarray) -> np.ndarray:
    def certified(rows: slice) -> np.ndarray:
        return certify_intervals(
            model,
            request.images[rows].astype(np.float32),
            labels[rows],
            epsilon=request.epsilon,
            value_range=(request.value_range.low, request.value_range.high),
            batch_size=min(request.size, _TRIED),
        ).certified

    first = certified(slice(min(_TRIED, request.count)))
    if not first.any() or request.count == len(first):
        return first
    return np.concatenate([first, certified(slice(len(first), request.count))])

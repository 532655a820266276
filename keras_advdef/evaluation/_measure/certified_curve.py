"""CertifiedCurve: accuracy that is guaranteed under every attack within a radius."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_advdef.constraints import Parseval
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.certify_cross_lipschitz import certify_cross_lipschitz
from keras_advdef.evaluation.certify_lipschitz_margin import certify_lipschitz_margin
from keras_advdef.models import SmoothedClassifier

_POINTS = 8


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CertifiedCurve:
    """Certified accuracies for increasing l2 radii.

    Attributes:
        radii: In increasing order from 0, in the units of the images.
        estimates: One for each radius.
        method: Name of the certificate.
        by_image: The radius of each of the first images, 0 for misclassified ones.
    """

    radii: tuple[float, ...]
    estimates: tuple[AccuracyEstimate, ...]
    method: str
    by_image: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Returns the curve as JSON values."""
        points = zip(self.radii, self.estimates, strict=True)
        return {
            "method": self.method,
            "norm": "l2",
            "curve": [{"radius": radius, **each.to_json()} for radius, each in points],
        }


def measure_certified(
    request: Request, labels: np.ndarray, ledger: Ledger
) -> CertifiedCurve | None:
    """Returns the curve, or `None` if no certificate applies to the model.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        ledger: Stores finished parts.
    """
    model, count = request.evaluated.model, min(request.count, request.budget.checked)
    if not isinstance(model, keras.Model):
        return None
    images = request.images[:count].astype(np.float32)

    def certify() -> Arrays:
        found = _radii(
            model,
            images,
            labels[:count],
            batch_size=request.size,
            seed=derived_seed(request.seed, "certified"),
        )
        return {"method": np.array(found[0]), "radii": found[1]}

    part = ledger.part("certified", certify, "the certificates")
    method, radii = str(part["method"]), part["radii"]
    if not method:
        return None
    grid = _grid(radii)
    estimates = tuple(
        AccuracyEstimate(int(((radii > 0) & (radii >= each)).sum()), count)
        for each in grid
    )
    return CertifiedCurve(
        radii=grid, estimates=estimates, method=method, by_image=radii
    )


def _radii(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int,
) -> tuple[str, np.ndarray]:
    """Returns the name of the certificate, or "" for none, and its radii.

    Args:
        model: The evaluated model.
        images: Images in the model's value range.
        labels: Integer labels.
        batch_size: Images per pass.
        seed: Seed of a smoothed classifier's draws.
    """
    if isinstance(model, SmoothedClassifier):
        found = model.certify(images, batch_size=batch_size, seed=seed)
        radii = np.where(found.classes == labels, found.radii, 0.0)
        return "randomized smoothing, each image with confidence 99.9 %", radii
    certificates = {"certify_cross_lipschitz": certify_cross_lipschitz}
    # For other networks the product of the layers' bounds is far too loose.
    if any(isinstance(each.constraint, Parseval) for each in model.trainable_variables):
        certificates["certify_lipschitz_margin"] = certify_lipschitz_margin
    for name, certificate in certificates.items():
        try:
            radii = certificate(model, images, labels, batch_size=batch_size)
        except ValueError:
            # Each certificate rejects the models that it does not hold for.
            continue
        return name, radii
    return "", np.zeros(0)


def _grid(radii: np.ndarray) -> tuple[float, ...]:
    """Returns radii of three digits, from zero to the largest certified one."""
    finite = radii[np.isfinite(radii)]
    largest = float(finite.max()) if finite.size else 0.0
    points = np.linspace(0.0, largest, _POINTS + 1)
    return tuple(sorted({float(f"{each:.3g}") for each in points}))

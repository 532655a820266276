"""Findings: all that an evaluation found, from which its report is made."""

import dataclasses

import numpy as np

from keras_advdef.evaluation._measure.certified_curve import CertifiedCurve
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._measure.robustness_curve import RobustnessCurve
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
)
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation.check import Check

# What a report says of one attack.
Record = dict[str, str | int | float]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Measurements:
    """What is measured after the attacks.

    Attributes:
        adaptive: For each fresh draw, which of the worst images are wrong.
        curve: Accuracy against epsilon.
        certified: Certified accuracy against radius, or `None`.
        smallest: The smallest perturbations, or `None`.
        gallery: The most fragile and the most robust images, or `None`.
    """

    adaptive: np.ndarray
    curve: RobustnessCurve
    certified: CertifiedCurve | None
    smallest: SmallestPerturbations | None
    gallery: Gallery | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that an evaluation found.

    Attributes:
        plan: The attacks.
        classes: Number of logits.
        labels: Integer labels.
        clean: In which share of its draws each clean image is wrong.
        naive: The same under the naive attack, on fresh draws.
        records: What each attack found, in order.
        checks: The verdicts.
        measured: What was measured after the attacks.
        seconds: Duration of each stage.
    """

    plan: Plan
    classes: int
    labels: np.ndarray
    clean: np.ndarray
    naive: np.ndarray
    records: list[Record]
    checks: list[Check]
    measured: Measurements
    seconds: dict[str, float]

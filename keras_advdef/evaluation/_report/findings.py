"""Findings: the results of an evaluation, from which its report is made."""

import dataclasses

import numpy as np

from keras_advdef.evaluation._measure.measurements import Measurements
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._run.attack_record import Record
from keras_advdef.evaluation._run.image_records import ImageRecords
from keras_advdef.evaluation.check import Check


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """The results of an evaluation.

    Attributes:
        plan: The attacks.
        classes: Number of logits.
        labels: Integer labels.
        clean: Share of the draws in which each clean image is misclassified.
        naive: The same under the naive attack, on fresh draws.
        chosen: The same under the worst of all attacks, on the draws that chose it.
        records: The entries of the attacks, in order.
        images: What each attack did to each image.
        checks: The results of the sanity checks.
        measured: The measurements after the attacks.
        seconds: Duration of each stage.
    """

    plan: Plan
    classes: int
    labels: np.ndarray
    clean: np.ndarray
    naive: np.ndarray
    chosen: np.ndarray
    records: list[Record]
    images: ImageRecords
    checks: list[Check]
    measured: Measurements
    seconds: dict[str, float]

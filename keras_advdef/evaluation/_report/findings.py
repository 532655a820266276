"""Findings: the results of an evaluation, from which its report is made."""

import dataclasses

import numpy as np

from keras_advdef.evaluation._measure.measurements import Measurements, Record
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._run.image_records import ImageRecords
from keras_advdef.evaluation._run.runner import Runner
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


def attack_record(runner: Runner, stage: Stage, images: int) -> Record:
    """Returns the report's entry for a stage that has just ended.

    Args:
        runner: Ran the stage.
        stage: The stage.
        images: Number of images that it attacked.
    """
    wrong = runner.wrong / runner.draws
    return {
        "key": stage.key,
        "name": stage.label,
        "role": stage.role,
        "images": images,
        "accuracy_after": float(1.0 - wrong.mean()),
    }

"""Measurements: what an evaluation measures once the attacks have run."""

import dataclasses

import numpy as np

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._measure.certified_accuracy import (
    CertifiedAccuracy,
    measure_certified_accuracy,
)
from keras_advdef.evaluation._measure.certified_curve import (
    CertifiedCurve,
    measure_certified,
)
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._measure.robustness_curve import (
    RobustnessCurve,
    measure_curve,
)
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
    find_smallest_perturbations,
)
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.attack_record import Record, attack_record
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.runner import Runner
from keras_advdef.evaluation.corruption_report import CorruptionReport

# Of the entry for what was found within epsilon.
_KEY = "smaller"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Measurements:
    """The measurements after the attacks.

    Attributes:
        adaptive: Which of the worst images are misclassified, for each fresh draw.
        curve: Accuracy against epsilon.
        certified: Certified accuracy against radius in l2, or `None`.
        within: Certified accuracy within epsilon in linf, or `None`.
        smallest: The smallest perturbations, or `None`.
        gallery: The most fragile and the most robust images, or `None`.
        example: One image at epsilon, or `None` if none was attacked.
        corrupted: Accuracy with common corruptions, or `None`.
    """

    adaptive: np.ndarray
    curve: RobustnessCurve
    certified: CertifiedCurve | None
    within: CertifiedAccuracy | None
    smallest: SmallestPerturbations | None
    gallery: Gallery | None
    example: Gallery | None
    corrupted: CorruptionReport | None = None


def measure_all(
    request: Request,
    probed: ProbeResult,
    labels: np.ndarray,
    *,
    runner: Runner,
    records: list[Record],
    ledger: Ledger,
    progress: Progress,
) -> Measurements:
    """Measures smallest perturbations, curve and certificates, and judges the images.

    What is found within epsilon counts as an attack.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
        labels: Integer labels of all images.
        runner: The runner after the last attack.
        records: Gets an entry if anything was found within epsilon.
        ledger: Stores finished parts.
        progress: Receives progress messages.
    """
    right = np.flatnonzero(runner.clean.wrong == 0)
    smallest = find_smallest_perturbations(
        request,
        probed,
        runner.judge,
        labels=labels,
        rows=right[: request.budget.searched],
        ledger=ledger,
        progress=progress,
        forecast=runner.forecast,
    )
    runner.forecast.end("nearest")
    before = runner.wrong.copy()
    nearest = None
    if smallest is not None:
        near = smallest.norms <= request.epsilon
        runner.take(smallest.rows[near], smallest.images[near], "near")
        # What breaks a random model in most draws need not in all.
        if not probed.is_random:
            nearest = smallest.rows, smallest.norms
    curve, adaptive = measure_curve(request, probed, runner, nearest=nearest)
    worse = runner.wrong > before
    if worse.any():
        searches = [] if smallest is None else [smallest.attack]
        names = [f"{curve.attack} at smaller epsilons", *searches]
        records.append(_near_record(runner, worse, ", ".join(names)))
    certified = measure_certified(request, labels, ledger)
    within = measure_certified_accuracy(request, labels, ledger)
    runner.forecast.end("certified")
    return Measurements(
        curve=curve,
        smallest=smallest,
        adaptive=adaptive,
        certified=certified,
        within=within,
        gallery=Gallery.of(
            smallest,
            request.images,
            labels,
            judge=runner.judge,
            draws=len(adaptive),
            seed=request.seed,
        ),
        example=Gallery.of_example(
            runner.records.example,
            request.images,
            labels,
            norm=request.norm,
            value_range=request.value_range,
        ),
    )


def _near_record(runner: Runner, worse: np.ndarray, name: str) -> Record:
    """The report's entry for what was found within epsilon, of some images."""
    runner.records.wrong[_KEY] = np.where(worse, runner.wrong, -1)
    images = int(worse.sum())
    return attack_record(runner, key=_KEY, name=name, role="curve", images=images)

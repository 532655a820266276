"""Evaluation: one run of `evaluate_robustness` from the probe to its findings."""

import dataclasses
import time
from typing import Any

import numpy as np

from keras_advdef.attacks.latent_space_attack import projection_of
from keras_advdef.core.progress import Progress
from keras_advdef.core.text import duration
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
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.evaluation._plan.probe_result import probe
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.expected_work import ExpectedWork
from keras_advdef.evaluation._run.forecast import Forecast
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.runner import Runner
from keras_advdef.evaluation._verdict.check_outputs import check_outputs
from keras_advdef.evaluation._verdict.sanity_checks import Evidence, sanity_checks
from keras_advdef.evaluation.better_than_chance import better_than_chance
from keras_advdef.evaluation.check import Check

_PROBED = 50
# A class that is no label stands for a detector if it takes this share.
_REJECTED_SHARE = 0.5
_IMAGES_A_CLASS = 7


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that an evaluation measured.

    Attributes:
        plan: The attacks.
        classes: Number of logits.
        labels: Integer labels.
        clean: In which share of its draws each clean image is wrong.
        naive: The same under the naive attack, on fresh draws.
        adaptive: For each fresh draw, which of the worst images are wrong.
        records: What each attack found, in order.
        checks: The verdicts.
        curve: Accuracy against epsilon.
        certified: Certified accuracy against radius, or `None`.
        smallest: The smallest perturbations, or `None`.
        gallery: The most fragile and the most robust images, or `None`.
        seconds: Duration of each stage.
    """

    plan: Plan
    classes: int
    labels: np.ndarray
    clean: np.ndarray
    naive: np.ndarray
    adaptive: np.ndarray
    records: list[dict[str, Any]]
    checks: list[Check]
    curve: RobustnessCurve
    certified: CertifiedCurve | None
    smallest: SmallestPerturbations | None
    gallery: Gallery | None
    seconds: dict[str, float]


class Evaluation:
    """Probes a model, attacks it accordingly and gathers what was found.

    Args:
        request: The checked arguments.
        ledger: Keeps finished parts.
        progress: Who is told.

    Raises:
        ValueError: If a label is no class of the model, or what a model returns cannot
            be worked with.
    """

    def __init__(self, request: Request, ledger: Ledger, progress: Progress) -> None:
        self._request = request
        self._ledger = ledger
        self._progress = progress
        self._judge = Judge(
            request.evaluated.model,
            value_range=request.value_range,
            batch_size=request.size,
        )
        first = self._judge.logits(request.images[:1], 0)
        self._labels = request.classes_of(first.shape[1])
        check_outputs(request, first)
        self._probed = probe(
            request.evaluated,
            request.images[:_PROBED],
            self._labels[:_PROBED],
            value_range=request.value_range,
            seed=request.seed,
        )
        self._runner = Runner(
            request,
            self._labels,
            self._judge,
            ledger=ledger,
            progress=progress,
            is_random=self._probed.is_random,
        )
        self._planner = Planner(request, self._probed)

    def run(self) -> Findings:
        """Attacks the model and returns what was found."""
        plan, runner = self._planner.plan(), self._runner
        self._check_room(plan)
        self._announce(plan)
        runner.measure_clean()
        chance = better_than_chance(runner.clean_logits.argmax(axis=-1), self._labels)
        if chance.passed is False:
            # Before the attacks take their time.
            self._progress.line(f"Warning: {chance.reason} {chance.detail}")
        record, rejections = self._attack_naively(plan)
        records = [record]
        naive = runner.evaluate_worst("naive").mean(axis=0)
        broken = self._check(plan, records)
        self._attack(plan, records)
        curve = measure_curve(self._request, self._probed, runner)
        smallest = self._find_smallest_perturbations()
        settled = runner.evaluate_worst("all")
        evidence = Evidence(
            chance=chance,
            probed=self._probed,
            broken=broken,
            labels={name: stage.label for name, stage in plan.checks.items()},
            naive=naive,
            adaptive=settled.mean(axis=0),
            at_full_range=curve.at_full_range,
            rejected=self._judge.rejected,
            rejections=rejections,
        )
        return Findings(
            plan=plan,
            classes=self._probed.classes,
            labels=self._labels,
            clean=runner.clean_wrong / runner.draws,
            naive=naive,
            adaptive=settled,
            records=records,
            checks=sanity_checks(evidence),
            curve=curve,
            certified=measure_certified(self._request, self._labels, self._ledger),
            smallest=smallest,
            gallery=Gallery.of(
                smallest,
                self._request.images,
                self._labels,
                value_range=self._request.value_range,
            ),
            seconds=runner.seconds,
        )

    def _check_room(self, plan: Plan) -> None:
        """Raises if the disk cannot hold the images that the parts keep."""
        request = self._request
        images = min(request.count, request.budget.searched)
        if self._probed.is_random:
            images += request.count * len(plan.stages)
        size = request.images[0].size * np.dtype(np.float32).itemsize
        self._ledger.check_room(images * size)

    def _announce(self, plan: Plan) -> None:
        """Tells what is planned, what it may cost, and what is left out."""
        request, classes = self._request, self._probed.classes
        rows = min(request.count, request.budget.checked)
        passes = 0.0
        for stage in plan.stages:
            images = rows if stage.role == "check" else request.count
            passes += stage.passes(classes) * images
        ball = request.value_range.epsilon_text(request.epsilon)
        of = "the data set's" if request.given is None else str(request.given)
        self._progress.line(
            f"Evaluating {request.count} of {of} images: {request.norm}, "
            f"epsilon {ball}, budget {request.budget.name}, seed {request.seed}."
        )
        rate = self._seconds_per_pass()
        self._runner.forecast = Forecast(rate, request.size)
        self._runner.outlook = ExpectedWork(
            request,
            self._probed,
            plan=plan,
            runner=self._runner,
            is_written=self._ledger.is_kept,
        )
        self._progress.line(
            f"Planned: {'; '.join(stage.label for stage in plan.stages)}. At most "
            f"{_rounded(passes)} model passes, {duration(passes * rate)} at the speed "
            "of a first try, plus the time to compile each attack. Attacks stop early "
            "on images that they break. The remaining time is shown once it is known."
        )
        projection = projection_of(request.evaluated.model)
        if projection is not None:
            searched = projection.steps * projection.restarts
            self._progress.line(
                f"Each model pass searches a latent space with {searched} generator "
                "passes. If this takes too long, evaluate fewer images."
            )
        for skipped in plan.skipped:
            self._progress.line(f"Skipped: {skipped.attack} ({skipped.reason}).")

    def _seconds_per_pass(self) -> float:
        """Times a forward pass; a backward pass takes twice as long again."""
        images = self._request.images[: self._request.size]
        self._judge.logits(images, 0)
        started = time.perf_counter()
        self._judge.logits(images, 0)
        return 3.0 * (time.perf_counter() - started) / len(images)

    def _attack_naively(self, plan: Plan) -> tuple[dict[str, Any], float]:
        """Returns what the report says of the attack, and a detector's share of it."""
        rows = self._runner.unbroken
        predicted = self._run(plan.naive, rows)["predicted"]
        last = self._probed.classes - 1
        moved = predicted != self._labels[rows]
        share = float((predicted[moved] == last).mean()) if moved.any() else 0.0
        is_found = share > _REJECTED_SHARE and self._is_no_label(last)
        if self._probed.rejects or is_found:
            # Whatever went there has been noticed, and has not fooled the model.
            self._judge.rejected = last
            self._runner.take_back(rows[predicted == last])
        return self._record(plan.naive, len(rows)), share

    def _is_no_label(self, last: int) -> bool:
        """Whether the last class is one of its own, and not just rare."""
        clean = self._runner.clean_logits.argmax(axis=-1)
        is_met = last in self._labels or last in clean
        # So many images of equally frequent classes miss none but once in a thousand.
        is_sure = len(self._labels) >= _IMAGES_A_CLASS * (last + 1)
        return last > 1 and is_sure and not is_met

    def _run(self, stage: Stage, rows: np.ndarray) -> dict[str, np.ndarray]:
        return self._runner.run(stage, rows)

    def _check(
        self, plan: Plan, records: list[dict[str, Any]]
    ) -> dict[str, np.ndarray]:
        """Returns what each of the attacks to be compared broke of the same images."""
        runner = self._runner
        first = np.arange(min(self._request.count, self._request.budget.checked))
        rows = first[runner.clean_wrong[first] < runner.draws]
        broken = {}
        for name, stage in plan.checks.items():
            broken[name] = self._run(stage, rows)["wrong"] > runner.draws / 2
            records.append(self._record(stage, len(rows)))
        return broken

    def _attack(self, plan: Plan, records: list[dict[str, Any]]) -> None:
        """Runs the other attacks, each on what is still standing."""
        stages = plan.adaptive
        if self._judge.rejected is not None:
            stages += tuple(self._planner.targeted())
        for stage in stages:
            standing = self._runner.unbroken
            self._run(stage, standing)
            records.append(self._record(stage, len(standing)))

    def _record(self, stage: Stage, images: int) -> dict[str, Any]:
        """What the report says of a stage that has just ended."""
        wrong = self._runner.wrong / self._runner.draws
        return {
            "name": stage.label,
            "role": stage.role,
            "images": images,
            "accuracy_after": float(1.0 - wrong.mean()),
        }

    def _find_smallest_perturbations(self) -> SmallestPerturbations | None:
        right = np.flatnonzero(self._runner.clean_wrong == 0)
        return find_smallest_perturbations(
            self._request,
            self._probed,
            self._judge,
            labels=self._labels,
            rows=right[: self._request.budget.searched],
            ledger=self._ledger,
            progress=self._progress,
            forecast=self._runner.forecast,
        )


def _rounded(number: float) -> str:
    """Two digits of a large number, as people write it."""
    return f"{float(f'{number:.2g}'):,.0f}"

"""Evaluation: the steps of `evaluate_robustness`, from the request to the report."""

import dataclasses
import datetime
import time
from collections.abc import Iterator

import numpy as np

from keras_advdef.core.progress import Progress, meter
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS, SEVERITIES
from keras_advdef.evaluation._measure.corrupted_accuracy import measure_corruptions
from keras_advdef.evaluation._measure.measurements import (
    measure_all,
)
from keras_advdef.evaluation._measure.reference_robustness import (
    ReferenceRobustness,
    measure_reference,
)
from keras_advdef.evaluation._plan.distilled_surrogate import DistilledSurrogate
from keras_advdef.evaluation._plan.plan_summary import opening, plan_summary
from keras_advdef.evaluation._plan.planned import Planned
from keras_advdef.evaluation._plan.probe_result import probe
from keras_advdef.evaluation._report.findings import Findings
from keras_advdef.evaluation._report.images_csv import images_csv
from keras_advdef.evaluation._report.norms_data import norms_data
from keras_advdef.evaluation._report.report_data import (
    report_data,
    run_facts,
)
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.campaign import Attacked, Campaign
from keras_advdef.evaluation._run.expected_work import ExpectedWork, corruption_key
from keras_advdef.evaluation._run.forecast import Forecast
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.runner import CleanImages, Runner, measure_clean
from keras_advdef.evaluation._verdict.check_outputs import check_outputs
from keras_advdef.evaluation._verdict.controls import Controls, take_controls
from keras_advdef.evaluation._verdict.evidence import Evidence
from keras_advdef.evaluation._verdict.sanity_checks import sanity_checks
from keras_advdef.evaluation._verdict.settled import settled_check
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.better_than_chance import better_than_chance
from keras_advdef.evaluation.check import Check
from keras_advdef.evaluation.corruption_report import CorruptionReport, title_of
from keras_advdef.evaluation.robustness_report import RobustnessReport


class Evaluation:
    """Probes a model, attacks it accordingly and reports the findings.

    Args:
        request: The checked arguments.
        ledger: Stores finished parts.
        progress: Receives the progress.

    Raises:
        ValueError: If a label is not a class of the model, or the outputs of a model
            cannot be used.
    """

    def __init__(self, request: Request, ledger: Ledger, progress: Progress) -> None:
        self._started = datetime.datetime.now(datetime.UTC)
        self._traces = meter.traces
        progress.line(opening(request))
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
        probed = probe(
            request.evaluated,
            request.images,
            self._labels,
            value_range=request.value_range,
            seed=request.seed,
        )
        self._distilled = DistilledSurrogate(request, probed.classes)
        self._planned = Planned.of(request, probed, self._distilled)

    def run(self) -> RobustnessReport:
        """Evaluates the model under every norm, and returns the report."""
        findings = self.findings()
        reference = measure_reference(self._request, self._ledger, self._progress)
        under = [(self._request, findings), *self._further()]
        return self._report(findings, under, reference)

    def findings(self) -> Findings:
        """Runs the planned attacks, measures and checks, for the main norm alone."""
        self._check_room()
        speed = self._seconds_per_pass()
        self._announce(speed)
        clean = self._measure_clean()
        chance = self._better_than_chance(clean)
        campaign = Campaign(
            self._request,
            self._labels,
            self._planned,
            as_random=self._taken_for_random,
            distilled=self._distilled,
            ledger=self._ledger,
        )
        attacked = campaign.attack(self._runner(clean, speed))
        controls = take_controls(
            self._request,
            self._labels,
            self._planned,
            chance=chance,
            converged=campaign.converge(attacked, self._progress),
            runner=attacked.runner,
            ledger=self._ledger,
            progress=self._progress,
        )
        runner = attacked.runner
        adaptive = runner.evaluate_worst("planned")
        gains = campaign.press(attacked, self._checks(attacked, controls, adaptive))
        measured = measure_all(
            self._request,
            self._planned.probed,
            self._labels,
            runner=runner,
            records=attacked.records,
            ledger=self._ledger,
            progress=self._progress,
        )
        corrupted = self._corrupted(runner)
        measured = dataclasses.replace(measured, corrupted=corrupted)
        return Findings(
            plan=self._planned.plan,
            classes=self._planned.probed.classes,
            labels=self._labels,
            clean=runner.clean.wrong / runner.draws,
            naive=attacked.naive,
            chosen=runner.wrong / runner.draws,
            records=attacked.records,
            images=runner.records,
            checks=[
                *self._checks(attacked, controls, measured.adaptive),
                settled_check(gains, self._request.count),
            ],
            measured=measured,
            seconds=runner.seconds,
        )

    def _further(self) -> Iterator[tuple[Request, Findings]]:
        """Evaluates the model under the further norms, in sections of the ledger."""
        for ball in self._request.further:
            request = self._request.under(ball)
            with self._ledger.section(ball.norm):
                further = Evaluation(request, self._ledger, self._progress)
                yield request, further.findings()

    def _check_room(self) -> None:
        """Raises if the disk has no room for the images in the parts."""
        request = self._request
        # Each image once, when it is broken; of a random model whenever it gets worse.
        is_random = self._planned.probed.is_random
        times = len(self._planned.plan.stages) if is_random else 1
        images = request.count * times * (1 + len(request.further))
        images += min(request.count, request.budget.searched)
        size = request.images[0].size * np.dtype(np.float32).itemsize
        self._ledger.check_room(images * size)

    def _seconds_per_pass(self) -> float:
        """Times a forward pass; a backward pass takes about twice as long."""
        images = self._request.images[: self._request.size]
        self._judge.logits(images, 0)
        started = time.perf_counter()
        self._judge.logits(images, 0)
        return 3.0 * (time.perf_counter() - started) / len(images)

    def _announce(self, seconds_per_pass: float) -> None:
        for line in plan_summary(
            self._request,
            self._planned.plan,
            classes=self._planned.probed.classes,
            seconds_per_pass=seconds_per_pass,
        ):
            self._progress.line(line)

    def _measure_clean(self) -> CleanImages:
        return measure_clean(
            self._request,
            self._labels,
            self._judge,
            ledger=self._ledger,
            is_random=self._planned.probed.is_random,
        )

    def _better_than_chance(self, clean: CleanImages) -> Check:
        chance = better_than_chance(clean.logits.argmax(axis=-1), self._labels)
        if chance.passed is False:
            # Before the attacks, which take long.
            self._progress.line(f"Warning: {chance.reason} {chance.detail}")
        return chance

    def _runner(self, clean: CleanImages, speed: float) -> Runner:
        return Runner(
            self._request,
            self._labels,
            self._judge,
            clean=clean,
            ledger=self._ledger,
            progress=self._progress,
            forecast=Forecast(speed, self._request.size),
            expected_work=self._expected_work(clean),
        )

    def _expected_work(self, clean: CleanImages) -> ExpectedWork:
        return ExpectedWork(
            self._request,
            self._planned.probed,
            plan=self._planned.plan,
            draws=clean.draws,
            is_written=self._ledger.is_kept,
        )

    def _taken_for_random(self, runner: Runner) -> tuple[Runner, Planned]:
        """Plans anew for a model that is random, but not on the probed images."""
        self._progress.line(
            "The answers to attacked images differ from draw to draw, so the attacks "
            "that follow average over draws."
        )
        probed = self._planned.probed.random_under_attack()
        self._planned = Planned.of(self._request, probed, self._distilled)
        self._check_room()
        clean = self._measure_clean()
        return runner.redrawn(clean, self._expected_work(clean)), self._planned

    def _corrupted(self, runner: Runner) -> CorruptionReport | None:
        """Measures the accuracy with common corruptions, if it is asked for."""
        request, forecast = self._request, runner.forecast
        if not request.corruptions:
            return None

        def begin(kind: str) -> None:
            self._progress.update(
                title_of(kind), left=request.count, seconds=forecast.seconds
            )
            forecast.end(corruption_key(kind))

        return measure_corruptions(
            self._judge,
            request.images,
            self._labels,
            clean=AccuracyEstimate.of_wrong(runner.clean.wrong / runner.draws),
            kinds=CORRUPTIONS,
            severities=SEVERITIES,
            seed=request.seed,
            ledger=self._ledger,
            begin=begin,
        )

    def _checks(
        self, attacked: Attacked, controls: Controls, adaptive: np.ndarray
    ) -> list[Check]:
        """The verdicts, with which of the worst images so far fool each fresh draw."""
        probed, plan = self._planned.probed, self._planned.plan
        if len(adaptive) > attacked.runner.draws:
            probed = probed.random_under_attack()
        evidence = Evidence(
            probed=probed,
            broken=attacked.broken,
            attacks={name: stage.label for name, stage in plan.checks.items()},
            absent=dict(plan.absent),
            labels=self._labels,
            checked=attacked.checked,
            naive=attacked.naive,
            adaptive=adaptive.mean(axis=0),
            rejected=attacked.rejection.label,
            rejections=attacked.rejection.share,
            undecided=int(attacked.runner.undecided.sum()),
            **vars(controls),
        )
        return sanity_checks(evidence)

    def _report(
        self,
        findings: Findings,
        under: list[tuple[Request, Findings]],
        reference: ReferenceRobustness | None,
    ) -> RobustnessReport:
        facts = run_facts(
            self._request,
            findings,
            identity=self._ledger.identity,
            started=self._started,
            traces=meter.traces - self._traces,
        )
        data = {**report_data(self._request, findings), "run": facts}
        data["reference"] = reference and reference.to_json()
        if len(under) > 1:
            data |= norms_data(under)
        corrupted = findings.measured.corrupted
        return RobustnessReport(
            data,
            gallery=findings.measured.gallery,
            example=findings.measured.example,
            images=images_csv(under),
            corrupted=None if corrupted is None else corrupted.examples,
        )

"""Campaign: all attacks of an evaluation, in order."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._plan.distilled_surrogate import DistilledSurrogate
from keras_advdef.evaluation._plan.planned import Planned
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.attack_record import Record, attack_record
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.rejection import Rejection, find_rejection
from keras_advdef.evaluation._run.runner import Runner
from keras_advdef.evaluation._verdict.convergence import check_convergence
from keras_advdef.evaluation._verdict.settled import is_settled
from keras_advdef.evaluation.better_than_chance import is_at_chance
from keras_advdef.evaluation.check import Check

_CLOSING_ROUNDS = 3


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Attacked:
    """The results of all attacks.

    Attributes:
        runner: The runner after the last attack.
        naive: Share of fresh draws in which each image is misclassified under the
            naive attack.
        broken: The images that each check attack broke, of those it was given.
        checked: Indices of these images, in order.
        rejection: The class for attacked images, if the model has one.
        records: The report's entries for the attacks, in order.
    """

    runner: Runner
    naive: np.ndarray
    broken: dict[str, np.ndarray]
    checked: np.ndarray
    rejection: Rejection
    records: list[Record]


class Campaign:
    """Runs the attacks: naive, for the checks, adaptive, and after a failed check.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        planned: The probed model and its attacks.
        as_random: Plans anew for a model that turns out to be random.
        distilled: The net that is taught by the model's decisions.
        ledger: Stores its weights.
    """

    def __init__(
        self,
        request: Request,
        labels: np.ndarray,
        planned: Planned,
        *,
        as_random: Callable[[Runner], tuple[Runner, Planned]],
        distilled: DistilledSurrogate,
        ledger: Ledger,
    ) -> None:
        self._request = request
        self._labels = labels
        self._planned = planned
        self._as_random = as_random
        self._distilled = distilled
        self._ledger = ledger

    def attack(self, runner: Runner) -> Attacked:
        """Runs the planned attacks.

        Args:
            runner: Runs them; has looked at the clean images.
        """
        naive, rows = self._planned.plan.naive, runner.unbroken
        predicted = runner.run(naive, rows)["predicted"]
        rejection = self._find_rejection(runner, rows, predicted)
        if rejection.label is not None:
            # Images in this class were detected, so they did not fool the model.
            detected = rows[predicted == rejection.label]
            runner = runner.rejecting(rejection.label, detected)
        judged = runner.evaluate_worst("naive")
        if len(judged) > runner.draws:
            runner, self._planned = self._as_random(runner)
        records = [_record(runner, naive, len(rows))]
        stages = self._planned.plan.adaptive
        if rejection.label is not None:
            stages += tuple(self._planned.planner.targeted())
        first = np.arange(min(self._request.count, self._request.budget.checked))
        checked = first[runner.clean.wrong[first] < runner.draws]
        broken = {}
        for name, stage in self._planned.plan.checks.items():
            self._teach(stage, runner)
            rows = checked[: stage.images]
            broken[name] = runner.run(stage, rows)["wrong"] > runner.draws / 2
            records.append(_record(runner, stage, len(rows)))
        attacked = Attacked(
            runner=runner,
            naive=judged.mean(axis=0),
            broken=broken,
            checked=checked,
            rejection=rejection,
            records=records,
        )
        self._run(attacked, stages)
        return attacked

    def converge(self, attacked: Attacked, progress: Progress) -> Check:
        """Takes more steps while they help; returns whether they still would.

        Args:
            attacked: The results so far, which are continued.
            progress: Receives the progress.
        """
        runner = attacked.runner
        convergence = check_convergence(
            self._request,
            self._planned.plan,
            runner,
            labels=self._labels,
            ledger=self._ledger,
            progress=progress,
        )
        attacked.records.extend(
            _record(runner, effort.stage, effort.images)
            for effort in convergence.efforts
        )
        return convergence.check

    def press(self, attacked: Attacked, checks: Sequence[Check]) -> list[int]:
        """Attacks further if a check has failed, until that gains nothing.

        Args:
            attacked: The results so far, which are continued.
            checks: The verdicts on them.

        Returns:
            The number of images that each round of attacks broke.
        """
        failed = [check.name for check in checks if check.passed is False]
        gains: list[int] = []
        if not failed or is_at_chance(checks) or self._request.attacks is not None:
            return gains
        while len(gains) < _CLOSING_ROUNDS:
            before = len(attacked.runner.unbroken)
            self._run(attacked, self._planned.planner.closing(len(gains), failed))
            gains.append(before - len(attacked.runner.unbroken))
            if is_settled(gains, self._request.count):
                break
        return gains

    def _run(self, attacked: Attacked, stages: Iterable[Stage]) -> None:
        """Runs attacks on the images that are still unbroken."""
        runner = attacked.runner
        for stage in stages:
            unbroken = runner.unbroken
            if len(unbroken):
                self._teach(stage, runner)
            runner.run(stage, unbroken)
            attacked.records.append(_record(runner, stage, len(unbroken)))

    def _teach(self, stage: Stage, runner: Runner) -> None:
        """Teaches the net that an attack transfers images from, if it needs it."""
        if self._distilled.made(stage.attack):
            self._distilled.teach(runner.judge, self._ledger)

    def _find_rejection(
        self, runner: Runner, rows: np.ndarray, predicted: np.ndarray
    ) -> Rejection:
        heedless = self._planned.planner.heedless
        return find_rejection(
            predicted,
            self._labels[rows],
            clean_logits=runner.clean.logits,
            all_labels=self._labels,
            is_declared=self._planned.probed.rejects,
            heedless=lambda: runner.run(heedless(), rows)["predicted"],
        )


def _record(runner: Runner, stage: Stage, images: int) -> Record:
    return attack_record(
        runner, key=stage.key, name=stage.label, role=stage.role, images=images
    )

"""measure_reference: how the undefended model fares under a few attacks."""

import dataclasses
from typing import Any

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS, SEVERITIES
from keras_advdef.evaluation._measure.corrupted_accuracy import measure_corruptions
from keras_advdef.evaluation._measure.robustness_curve import (
    RobustnessCurve,
    measure_curve,
)
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.evaluation._plan.probe_result import probe
from keras_advdef.evaluation._request.budget import BUDGETS
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.forecast import Forecast
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.runner import Runner, measure_clean
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.corruption_report import CorruptionReport, title_of

_SECTION = "reference"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRobustness:
    """The accuracies of the reference model.

    Attributes:
        clean: Accuracy on clean images.
        attacked: Accuracy under the attacks.
        attacks: Names of the attacks.
        curve: Accuracy against epsilon.
        corrupted: Accuracy with common corruptions, or `None`.
    """

    clean: AccuracyEstimate
    attacked: AccuracyEstimate
    attacks: tuple[str, ...]
    curve: RobustnessCurve
    corrupted: CorruptionReport | None

    def to_json(self) -> dict[str, Any]:
        """Returns the accuracies as JSON values."""
        return {
            "clean": {**self.clean.to_json(), "attacks": []},
            "adaptive": {**self.attacked.to_json(), "attacks": list(self.attacks)},
            "curve": self.curve.to_json(),
            "corruptions": self.corrupted and self.corrupted.to_json(),
        }


def measure_reference(
    request: Request, ledger: Ledger, progress: Progress
) -> ReferenceRobustness | None:
    """Attacks the reference on the same images; `None` if there is none.

    An undefended model falls to the naive attack and to the attacks of the quick
    budget; whatever it withstands is an upper bound.

    Args:
        request: The checked arguments.
        ledger: Stores finished parts, in a section of their own.
        progress: Receives progress messages.

    Raises:
        ValueError: If a label is not a class of the reference.
    """
    if request.reference is None:
        return None
    request = dataclasses.replace(
        request,
        evaluated=request.reference,
        reference=None,
        surrogate=None,
        attacks=None,
        further=(),
        class_names=None,
        budget=dataclasses.replace(
            request.budget, name="quick", passes=BUDGETS["quick"].passes
        ),
    )
    progress.line("Attacking the reference, to compare with.")
    with ledger.section(_SECTION):
        return _measured(request, ledger, progress)


def _measured(
    request: Request, ledger: Ledger, progress: Progress
) -> ReferenceRobustness:
    model, pixels = request.evaluated.model, request.value_range
    judge = Judge(model, value_range=pixels, batch_size=request.size)
    labels = request.classes_of(judge.logits(request.images[:1], 0).shape[1])
    probed = probe(
        request.evaluated,
        request.images,
        labels,
        value_range=pixels,
        seed=request.seed,
    )
    plan = Planner(request, probed).plan()
    clean = measure_clean(
        request, labels, judge, ledger=ledger, is_random=probed.is_random
    )
    runner = Runner(
        request,
        labels,
        judge,
        clean=clean,
        ledger=ledger,
        progress=progress,
        forecast=Forecast(),
        expected_work=lambda so_far: {},
    )
    for stage in (plan.naive, *plan.adaptive):
        runner.run(stage, runner.unbroken)
    curve, attacked = measure_curve(request, probed, runner)
    estimate = AccuracyEstimate.of_wrong(clean.wrong / clean.draws)
    return ReferenceRobustness(
        clean=estimate,
        attacked=AccuracyEstimate.over_draws(attacked),
        attacks=tuple(stage.label for stage in (plan.naive, *plan.adaptive)),
        curve=curve,
        corrupted=measure_corruptions(
            judge,
            request.images,
            labels,
            clean=estimate,
            kinds=CORRUPTIONS,
            severities=SEVERITIES,
            seed=request.seed,
            ledger=ledger,
            begin=lambda kind: progress.update(
                f"{title_of(kind)}, reference", left=request.count, seconds=None
            ),
        )
        if request.corruptions
        else None,
    )

"""Controls: measurements on which the checks rest, besides the attacks."""

import dataclasses

import numpy as np

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._measure.full_range import stand_without_bounds
from keras_advdef.evaluation._plan.planned import Planned
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._plan.true_gradients import (
    TrueGradients,
    measure_true_gradients,
)
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.evaluation._run.runner import Runner
from keras_advdef.evaluation._verdict.binarization import check_binarization
from keras_advdef.evaluation._verdict.roughness import check_roughness
from keras_advdef.evaluation._verdict.steadiness import check_steadiness
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.check import Check

# Images whose gradients are compared with what the model does.
_IMAGES = 100


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Controls:
    """Measurements on which the checks rest; see `Evidence`.

    Attributes:
        chance: Whether clean images are classified better than by chance.
        truth: What steps along the gradient gain.
        at_full_range: Accuracy under a gradient attack without bounds.
        steady: Whether the model still answers as it did.
        planted: Whether the attacks find perturbations that certainly exist.
        converged: Whether more steps would break no more images.
        smooth: Whether the loss is smooth enough for gradients.
    """

    chance: Check
    truth: TrueGradients | None
    at_full_range: AccuracyEstimate
    steady: Check
    planted: Check
    converged: Check
    smooth: Check


def take_controls(
    request: Request,
    labels: np.ndarray,
    planned: Planned,
    *,
    chance: Check,
    converged: Check,
    runner: Runner,
    ledger: Ledger,
    progress: Progress,
) -> Controls:
    """Takes these measurements.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        planned: The probed model and its attacks.
        chance: Whether clean images are classified better than by chance.
        converged: Whether more steps would break no more images.
        runner: Has run the attacks.
        ledger: Stores what was measured.
        progress: Receives the progress.
    """
    probed = planned.probed
    return Controls(
        chance=chance,
        truth=_true_gradients(request, labels, probed, ledger=ledger),
        at_full_range=stand_without_bounds(request, probed, runner),
        steady=check_steadiness(
            runner.judge,
            request.images,
            runner.clean.logits,
            seed=derived_seed(request.seed, "clean", 0),
            is_random=probed.is_random,
        ),
        planted=check_binarization(
            request, probed, planned.plan, ledger=ledger, progress=progress
        ),
        converged=converged,
        smooth=check_roughness(
            request,
            probed,
            runner.judge,
            labels=labels,
            ledger=ledger,
            progress=progress,
        ),
    )


def _true_gradients(
    request: Request, labels: np.ndarray, probed: ProbeResult, *, ledger: Ledger
) -> TrueGradients | None:
    view = probed.adaptive
    if probed.cards:
        # Defences of this package say themselves where their gradients approximate.
        if not request.evaluated.can_bypass:
            return None
        view = dataclasses.replace(probed.naive, is_random=view.is_random)

    def measure() -> Arrays:
        truth = measure_true_gradients(
            view,
            request.images[:_IMAGES],
            labels[:_IMAGES],
            epsilon=request.epsilon,
            norm=request.norm,
            value_range=request.value_range,
            batch_size=request.size,
            seed=request.seed,
        )
        return vars(truth)

    what = "what the gradients promise"
    return TrueGradients(**ledger.part("true-gradients", measure, what))

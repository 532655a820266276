"""Plans a training: how many epochs fit into the minutes."""

import dataclasses

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.text import duration
from keras_advdef.recipes._harden.request import OWNER, Request
from keras_advdef.recipes._harden.training_data import TrainingData

_DEFAULT_EPOCHS = 30
MOST_EPOCHS = 300
# Of a hardened model more images survive the first attacks, so more are attacked on.
_LONGER_AFTER = 2.0
# Passes of an image, a backward pass counting as two: in a step, for the choice of the
# epoch (PGD-10), and for the guard (PGD-10 and FGSM).
_STEP_PASSES = {"fast": 6.0, "pgd": 24.0, "trades": 27.0, "certified": 9.0}
_SELECTION_PASSES, _GUARD_PASSES = 31.0, 36.0
# Images on which the guard notices a collapse, and batches from which averaged weights
# get statistics.
PROBES, STATISTICS_BATCHES = 200, 20
_SPARE = 1.05
_TOLERANCE = 0.1


@dataclasses.dataclass(kw_only=True)
class Plan:
    """How long what takes; whole epochs may change it.

    Attributes:
        epochs: Passes over the training images.
        precision: Of the attacks in training.
        seconds_per_epoch: Expected.
        evaluation_seconds: Expected for the evaluation afterwards.
        training_seconds: Allowed for the training, or `None`.
    """

    epochs: int
    precision: str
    seconds_per_epoch: float
    evaluation_seconds: float
    training_seconds: float | None = None

    def revise(self, done: int, *, seconds: float, spent: float) -> bool:
        """Plans anew where time is limited and the plan is off by more than a tenth.

        Args:
            done: Epochs done.
            seconds: What an epoch takes.
            spent: Seconds of training so far.

        Returns:
            Whether there are more or fewer epochs now.
        """
        if self.training_seconds is None:
            return False
        left = max(0, int((self.training_seconds - spent) / max(seconds, 1e-9)))
        epochs = min(MOST_EPOCHS, done + left)
        if abs(epochs - self.epochs) <= _TOLERANCE * self.epochs:
            return False
        self.epochs, self.seconds_per_epoch = epochs, seconds
        return True

    @property
    def sentence(self) -> str:
        """The plan, as it is printed before training starts."""
        training = duration(max(1.0, self.epochs * self.seconds_per_epoch))
        evaluation = duration(max(1.0, self.evaluation_seconds))
        return f"Plan: {self.epochs} epochs, about {training}; evaluation {evaluation}."


def planned(
    request: Request,
    data: TrainingData,
    *,
    precision: str,
    step: float,
    spent: float,
    evaluation: float,
) -> Plan:
    """Returns a plan that fits into the minutes, if they are limited.

    Args:
        request: What was asked for.
        data: The images.
        precision: Of the attacks.
        step: Seconds of a training step.
        spent: Seconds that are gone already.
        evaluation: Seconds that the evaluation before training took.

    Raises:
        ValueError: If the minutes are too few for one epoch.
    """
    per_epoch = step * (
        data.batches_per_epoch(request.batch_size) + _extra(request, data)
    )
    after = _LONGER_AFTER * evaluation
    plan = Plan(
        epochs=request.epochs or _DEFAULT_EPOCHS,
        precision=precision,
        seconds_per_epoch=per_epoch,
        evaluation_seconds=after,
    )
    if request.minutes is not None and request.epochs is None:
        left = 60.0 * request.minutes - spent - after
        plan.training_seconds = left
        plan.epochs = min(MOST_EPOCHS, int(left / max(_SPARE * per_epoch, 1e-9)))
        if plan.epochs < 1:
            least = np.ceil((spent + after + _SPARE * per_epoch) / 6.0) / 10.0
            rule = "enough for one epoch and the evaluation"
            advice = f"Here that takes about {least:g} minutes."
            raise invalid(OWNER, "minutes", rule, request.minutes, advice=advice)
    return plan


def _extra(request: Request, data: TrainingData) -> float:
    """Returns how many steps the work at the end of an epoch amounts to."""
    kind = "trades" if request.recipe.startswith("trades") else request.recipe
    passes = len(data.selection) * _SELECTION_PASSES
    if kind == "fast" and request.guard:
        passes += min(PROBES, len(data.selection)) * _GUARD_PASSES
    extra = passes / (request.batch_size * _STEP_PASSES[kind])
    if request.averaging > 0.0:
        steps = data.batches_per_epoch(request.batch_size)
        extra += min(STATISTICS_BATCHES, steps)
    return extra

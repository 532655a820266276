"""Plans a training: how many epochs fit into the minutes."""

import dataclasses

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.text import duration
from keras_advdef.recipes._harden.request import OWNER, Request
from keras_advdef.recipes._harden.training_data import TrainingData

_DEFAULT_EPOCHS = 30
_MOST_EPOCHS = 300
# Of a hardened model more images survive the first attacks, so more are attacked on.
_LONGER_AFTER = 2.0
# Selection after each epoch: PGD-10 and the clean images.
_SELECTION_PASSES, _STEP_PASSES = 31.0, {"fast": 6.0, "pgd": 24.0, "trades": 27.0}
_SPARE = 1.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How long what takes.

    Attributes:
        epochs: Passes over the training images.
        precision: Of the attacks in training.
        seconds_per_epoch: Expected; 0 if nothing was timed.
        evaluation_seconds: Expected for the evaluation afterwards.
    """

    epochs: int
    precision: str
    seconds_per_epoch: float
    evaluation_seconds: float

    @property
    def sentence(self) -> str:
        """The plan, as it is printed before training starts."""
        training = duration(max(1.0, self.epochs * self.seconds_per_epoch))
        evaluation = duration(max(1.0, self.evaluation_seconds))
        return (
            f"Plan: {self.epochs} epochs, about {training}; evaluation {evaluation}. "
            f"Attacks in training are crafted in {self.precision}."
        )


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
    steps = data.batches_per_epoch(request.batch_size)
    kind = "trades" if request.recipe.startswith("trades") else request.recipe
    images = steps * request.batch_size * _STEP_PASSES[kind]
    selection = len(data.selection) * _SELECTION_PASSES / max(images, 1.0)
    per_epoch = step * steps * (1.0 + selection)
    after = _LONGER_AFTER * evaluation
    epochs = request.epochs or _DEFAULT_EPOCHS
    if request.minutes is not None and request.epochs is None:
        left = 60.0 * request.minutes - spent - after
        epochs = min(_MOST_EPOCHS, int(left / max(_SPARE * per_epoch, 1e-9)))
        if epochs < 1:
            least = np.ceil((spent + after + _SPARE * per_epoch) / 6.0) / 10.0
            rule = "enough for one epoch and the evaluation"
            advice = f"Here that takes about {least:g} minutes."
            raise invalid(OWNER, "minutes", rule, request.minutes, advice=advice)
    return Plan(
        epochs=epochs,
        precision=precision,
        seconds_per_epoch=per_epoch,
        evaluation_seconds=after,
    )

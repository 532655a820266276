"""PerturbationSchedule: moves the epsilon of adversarial training, or its kappa."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_advdef.core.errors import checked_choice, invalid, wrong_type
from keras_advdef.training.adversarial_training_model import AdversarialTrainingModel
from keras_advdef.training.free_adversarial_training_model import (
    FreeAdversarialTrainingModel,
)

_MODELS = (AdversarialTrainingModel, FreeAdversarialTrainingModel)


class PerturbationSchedule(keras.callbacks.Callback):
    """Changes the epsilon of an adversarial training model during training.

    Training at a large epsilon from the start can get stuck on a plateau; growing it
    from zero avoids that. The optimizer counts the steps, so a resumed run continues
    where it stopped. The training step is not traced again.

    Args:
        schedule: Function of the step (or epoch) that returns epsilon, in the units of
            the attack's value range, or one epsilon per attack; for example one of
            `keras.optimizers.schedules`.
        per: "step" or "epoch": what the schedule counts.
        weight: Which number moves: "epsilon", or "kappa" of
            `objectives.IntervalBounds`.

    Raises:
        TypeError: If `schedule` is not a function.
        ValueError: If the model has no such number, or the schedule does not return
            one.

    Example:

    >>> ramp = keras.optimizers.schedules.PolynomialDecay(0.0, 1000, 0.3, power=1.0)
    >>> callback = keras_advdef.callbacks.PerturbationSchedule(ramp)
    >>> round(float(callback.schedule(500)), 6)
    0.15
    """

    def __init__(
        self,
        schedule: Callable[[int], float | Sequence[float]],
        *,
        per: str = "step",
        weight: str = "epsilon",
    ) -> None:
        super().__init__()
        if not callable(schedule):
            rule = "a function of the step"
            raise wrong_type("PerturbationSchedule", "schedule", rule, schedule)
        self.schedule = schedule
        self.per = checked_choice("PerturbationSchedule", "per", per, ("step", "epoch"))
        self.weight = checked_choice(
            "PerturbationSchedule", "weight", weight, ("epsilon", "kappa")
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises if the model trains without such a number."""
        model = self.model
        if not isinstance(model, _MODELS) or getattr(model, self.weight, None) is None:
            rule = "an adversarial training model with an attack"
            if self.weight != "epsilon":
                rule = "one that trains with `objectives.IntervalBounds`"
            raise invalid("PerturbationSchedule", "model", rule, model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets epsilon for the epoch, if the schedule counts epochs."""
        if self.per == "epoch":
            self._set(epoch)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets epsilon for the step, if the schedule counts steps."""
        if self.per == "step":
            self._set(int(self.model.optimizer.iterations.numpy()))

    def _set(self, count: int) -> None:
        value = np.asarray(self.schedule(count), np.float32)
        moved = getattr(self.model, self.weight)
        shape, most = tuple(moved.shape), 1.0 if self.weight == "kappa" else np.inf
        if value.shape != shape or not ((value >= 0) & (value <= most)).all():
            rule = f"a function that returns {self.weight}s >= 0 of shape {shape}"
            if self.weight == "kappa":
                rule = "a function that returns numbers from 0 to 1"
            raise invalid("PerturbationSchedule", "schedule", rule, value)
        moved.assign(value)

"""PerturbationSchedule: moves the epsilon of adversarial training."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_advdef.core.errors import checked_choice, invalid, wrong_type


class PerturbationSchedule(keras.callbacks.Callback):
    """Sets the epsilon of an adversarial training model as training goes on.

    Training at a large epsilon from the start can stay on a plateau; growing it from
    zero avoids that. Steps are counted by the optimizer, so a resumed run continues
    where it stopped. The model's step is not retraced.

    Args:
        schedule: Function of the step (or epoch) that returns epsilon, in the units of
            the attack's value range, or one epsilon per attack. The schedules of
            `keras.optimizers.schedules` serve.
        per: "step" or "epoch": what the schedule counts.

    Raises:
        TypeError: If `schedule` is no function.
        ValueError: If the model has no epsilon, or the schedule returns none.

    Example:

    >>> ramp = keras.optimizers.schedules.PolynomialDecay(0.0, 1000, 0.3, power=1.0)
    >>> callback = keras_advdef.callbacks.PerturbationSchedule(ramp)
    >>> round(float(callback.schedule(500)), 6)
    0.15
    """

    def __init__(self, schedule: Callable[[int], Any], *, per: str = "step") -> None:
        super().__init__()
        if not callable(schedule):
            rule = "a function of the step"
            raise wrong_type("PerturbationSchedule", "schedule", rule, schedule)
        self.schedule = schedule
        self.per = checked_choice("PerturbationSchedule", "per", per, ("step", "epoch"))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises if the model trains without an attack."""
        if getattr(self.model, "epsilon", None) is None:
            rule = "an adversarial training model with an attack"
            raise invalid("PerturbationSchedule", "model", rule, self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets epsilon for the epoch, if the schedule counts epochs."""
        if self.per == "epoch":
            self._set(epoch)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets epsilon for the step, if the schedule counts steps."""
        if self.per == "step":
            self._set(int(self.model.optimizer.iterations))

    def _set(self, count: int) -> None:
        epsilon = np.asarray(self.schedule(count), np.float32)
        shape = self.model.epsilon.shape
        if epsilon.shape != tuple(shape) or not (epsilon >= 0).all():
            rule = f"a function that returns epsilons >= 0 of shape {tuple(shape)}"
            raise invalid("PerturbationSchedule", "schedule", rule, epsilon)
        self.model.epsilon.assign(epsilon)

"""FiniteGuard: stops training that diverges and goes back to the last good weights."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_advdef.core.arguments import checked_integer
from keras_advdef.core.errors import invalid


class FiniteGuard(keras.callbacks.Callback):
    """Raises once a logged value is not finite, with the last finite weights restored.

    Weights are copied when training begins, every few batches and after each epoch,
    if all of them and all logs are finite.

    Args:
        owner: Name of the class that trains.
        variables: What to restore: weights, states of optimizers and random streams.
        every: Batches from one copy to the next, at least 1.

    Raises:
        ValueError: If training diverges.
    """

    def __init__(
        self, owner: str, variables: Sequence[keras.Variable], *, every: int = 100
    ) -> None:
        super().__init__()
        self._owner = owner
        self._variables = tuple(variables)
        self._every = checked_integer("FiniteGuard", "every", every, low=1)
        self._copies: list[np.ndarray] = []
        self._epoch = 0
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Copies the weights that training starts from, and notes the epoch."""
        self._epoch = epoch
        # Not when training begins, since `BackupAndRestore` loads weights then.
        if not self._copies:
            self._copy()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Raises or, now and then, copies the weights."""
        for name, value in (logs or {}).items():
            if not np.isfinite(np.asarray(value)).all():
                self._stop(name, float(np.asarray(value).ravel()[0]))
        self._batches += 1
        if self._batches % self._every == 0:
            self._copy()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Copies the weights."""
        self._copy()

    def _copy(self) -> None:
        copies = [keras.ops.convert_to_numpy(variable) for variable in self._variables]
        if all(np.isfinite(copy).all() for copy in copies):
            self._copies = copies
        else:
            self._stop("weights", float("nan"))

    def _stop(self, name: str, value: float) -> None:
        # Without a copy training began from such weights, which then stay.
        for variable, copy in zip(self._variables, self._copies, strict=False):
            variable.assign(copy)
        rule = f"finite, but training diverged in epoch {self._epoch + 1}"
        advice = (
            "The model has its last good weights again; a lower learning rate, or "
            "images without NaN, may help."
        )
        raise invalid(self._owner, name, rule, value, advice=advice)

"""KLAnnealing: raises the weight of the divergence of variational layers."""

from typing import Any

import keras

from keras_advdef.core.errors import checked_choice, checked_number
from keras_advdef.layers.set_kl_weight import variational_layers


class KLAnnealing(keras.callbacks.Callback):
    """Raises the weight of the KL divergence linearly to its full value.

    Where the noise of the weights drowns the signal of the first epochs, the divergence
    keeps it that way; annealing lets the means grow first. The callback sets the
    variable `kl_scale` of all variational layers, never their `kl_weight`, from epoch
    and batch alone, so a run that `BackupAndRestore` resumes continues where it
    stopped. Training and validation loss contain the divergence at its current weight.

    Args:
        epochs: Number above 0. Epochs after which the full weight is reached.
        start: Number from 0 to 1. Share of the full weight at the beginning.
        per: "step" to raise it before every batch, where the number of batches is
            known, or "epoch".

    Raises:
        ValueError: If an argument is out of its range, or the model has no variational
            layer.

    Example:

    >>> callback = keras_advdef.callbacks.KLAnnealing(epochs=10)
    >>> callback.scale(2.5)
    0.25
    """

    def __init__(self, epochs: float, *, start: float = 0.0, per: str = "step") -> None:
        super().__init__()
        owner = "KLAnnealing"
        self.epochs = checked_number(owner, "epochs", epochs, low=0.0, low_open=True)
        self.start = checked_number(owner, "start", start, low=0.0, high=1.0)
        self.per = checked_choice(owner, "per", per, ("step", "epoch"))
        self._epoch = 0

    def scale(self, position: float) -> float:
        """Returns the share of the full weight.

        Args:
            position: Epochs since the beginning, with fractions.

        Returns:
            Number between `start` and 1.
        """
        return self.start + (1.0 - self.start) * min(position / self.epochs, 1.0)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises if there is nothing to anneal."""
        variational_layers("KLAnnealing", self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the weight for the epoch, or for its first batch."""
        self._epoch = epoch
        self._set(self.scale(epoch))

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets the weight for the batch."""
        batches = (self.params or {}).get("steps")
        if self.per == "step" and batches:
            self._set(self.scale(self._epoch + batch / batches))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Sets the full weight."""
        self._set(1.0)

    def _set(self, scale: float) -> None:
        for layer in variational_layers("KLAnnealing", self.model):
            layer.kl_scale.assign(scale)

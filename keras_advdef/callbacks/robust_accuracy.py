"""RobustAccuracy: accuracy under an attack after an epoch, for any model."""

from typing import Any

import keras
import numpy as np

from keras_advdef.attacks.attack import Attack
from keras_advdef.callbacks._attacked_accuracy import attacked_accuracy
from keras_advdef.core.errors import checked_instance, checked_integer, invalid
from keras_advdef.core.keras_training import running_callbacks
from keras_advdef.core.labels import checked_class_labels

_NAME = "val_robust_accuracy"


class RobustAccuracy(keras.callbacks.Callback):
    """Attacks validation images after an epoch and logs the accuracy that remains.

    It adds `val_robust_accuracy` to the logs of every epoch, so that callbacks after it
    can monitor it; pass them `mode="max"`. Between measurements the last value is
    repeated. It is the accuracy under the given attack only.

    Args:
        attack: An `Attack` with an epsilon.
        validation_data: Pair of images `(count, rows, cols, channels)` and labels.
        frequency: Epochs from one measurement to the next; the first epoch is always
            measured.
        batch_size: Images per compiled call.
        seed: Integer that fixes the attack's draws, so that epochs can be compared.

    Raises:
        TypeError: If `attack` is not an `Attack`.
        ValueError: If an argument is outside its bounds, the attack is one to train on,
            such as `NFGSM`, or a callback that monitors
            `val_robust_accuracy` stands before this one.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss)
    >>> x, y = np.zeros((4, 2, 2, 1)), np.zeros(4)
    >>> callback = keras_advdef.callbacks.RobustAccuracy(
    ...     keras_advdef.attacks.FGSM(0.1), (x, y))
    >>> history = model.fit(x, y, callbacks=[callback], verbose=0)
    >>> sorted(history.history)
    ['loss', 'val_robust_accuracy']
    """

    def __init__(
        self,
        attack: Attack,
        validation_data: tuple[np.ndarray, np.ndarray],
        frequency: int = 1,
        *,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        owner = "RobustAccuracy"
        self.attack = checked_instance(owner, "attack", attack, Attack)
        attack.check_measures(owner, "attack")
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            rule = "a pair (images, labels) of arrays"
            raise invalid(owner, "validation_data", rule, validation_data)
        self.validation_data = tuple(np.asarray(each) for each in validation_data)
        self.frequency = checked_integer(owner, "frequency", frequency, low=1)
        self.batch_size = checked_integer(owner, "batch_size", batch_size, low=1)
        self.seed = checked_integer(owner, "seed", seed, low=0)
        self._last: float | None = None
        labels = np.atleast_1d(self.validation_data[1])
        self._classes = checked_class_labels(
            owner, labels, count=len(labels), classes=None
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises if a callback before this one monitors what this one logs."""
        self._last = None
        for callback in running_callbacks(self):
            if callback is self:
                return
            if getattr(callback, "monitor", None) == _NAME:
                name = type(callback).__name__
                rule = f"listed before `{name}`, which monitors `{_NAME}`"
                raise invalid("RobustAccuracy", "callbacks", rule, "a later place")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the accuracy under the attack into the logs."""
        if self._last is None or epoch % self.frequency == 0:
            self._last = self._measure()
        if logs is not None:
            logs[_NAME] = self._last

    def _measure(self) -> float:
        return attacked_accuracy(
            self.attack,
            self.model,
            (self.validation_data[0], self._classes),
            batch_size=self.batch_size,
            seed=self.seed,
        )

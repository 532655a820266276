"""SwapAveragedWeights: validates averaged weights, with statistics of their own."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.errors import checked_integer, invalid
from keras_advdef.core.keras_private import flat_layers, seed_state_variables
from keras_advdef.core.keras_training import averaged_weights
from keras_advdef.training.training_model import TrainingModel

Batches = Iterable[tuple[Any, Any]]


class SwapAveragedWeights(keras.callbacks.Callback):
    """Puts averaged weights into the model for validation and at the end of training.

    An optimizer with `use_ema=True` averages the trainable weights over the steps. The
    moving statistics of batch normalization are not among them, and those of the raw
    weights do not fit: here they are computed anew from some batches, in the passes
    that training makes of them, attacks included. Nothing else that these passes
    change is kept. Training goes on with the raw weights and statistics, bit for bit.

    Keras's `SwapEMAWeights` swaps the weights alone. Callbacks that save or compare
    weights during validation see the averaged ones; `EarlyStopping` and
    `ModelCheckpoint` act after validation, on the raw ones.

    Args:
        batches: A data set of training images and labels; read from its beginning.
        most: Most batches to compute the statistics from.

    Raises:
        ValueError: If `most` is below 1, or when training starts if the optimizer does
            not average.

    Example:

    >>> x, y = np.zeros((4, 2, 2, 1)), np.zeros(4)
    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.SGD(0.1, use_ema=True), loss)
    >>> batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    >>> swap = keras_advdef.callbacks.SwapAveragedWeights(batches)
    >>> history = model.fit(
    ...     batches, validation_data=batches, shuffle=False, callbacks=[swap],
    ...     verbose=0)
    """

    def __init__(self, batches: Batches, *, most: int = 20) -> None:
        super().__init__()
        self._batches = batches
        self._most = checked_integer("SwapAveragedWeights", "most", most, low=1)
        self._raw: list[tuple[keras.Variable, Any]] = []
        self._pass: Callable[[Any, Any], Any] | None = None
        self._share: tf.Variable | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises if the optimizer does not average."""
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer = optimizer.inner_optimizer
        if not optimizer.use_ema:
            rule = "made with use_ema=True"
            raise invalid("SwapAveragedWeights", "optimizer", rule, optimizer.name)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the averaged weights and their statistics into the model."""
        pairs = averaged_weights(self.model.optimizer)
        kept = [each for each, _ in pairs]
        kept += [each for layer in self._layers() for each in _moving(layer)]
        self._raw = [(each, tf.identity(each.value)) for each in kept]
        for variable, average in pairs:
            variable.assign(average)
        self._recompute()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the raw weights and their statistics back."""
        for variable, value in self._raw:
            variable.assign(value)
        self._raw = []

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Computes the statistics of the averaged weights, which Keras leaves there."""
        self._recompute()

    def _layers(self) -> list[keras.layers.BatchNormalization]:
        return [
            layer
            for layer in flat_layers(self.model)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]

    def _recompute(self) -> None:
        """Computes the moving statistics from a few batches, as plain means."""
        layers = self._layers()
        if not layers:
            return
        moving = {id(each) for layer in layers for each in _moving(layer)}
        others = [
            each
            for each in (
                *self.model.non_trainable_variables,
                *seed_state_variables(self.model),
            )
            if id(each) not in moving
        ]
        before = [tf.identity(each.value) for each in others]
        try:
            for number, (images, labels, *_) in enumerate(
                itertools.islice(self._batches, self._most)
            ):
                self._take(layers, number, (images, labels))
        finally:
            for variable, value in zip(others, before, strict=True):
                variable.assign(value)

    def _take(
        self,
        layers: list[keras.layers.BatchNormalization],
        number: int,
        batch: tuple[Any, Any],
    ) -> None:
        """Makes a pass in which the statistics keep a growing share of their past."""
        if self._share is None or self._pass is None:
            self._share = tf.Variable(0.0, trainable=False)
            self._pass = tf.function(_pass_of(self.model), autograph=False)
        self._share.assign(number / (number + 1.0))
        usual = [layer.momentum for layer in layers]
        try:
            for layer in layers:
                layer.momentum = self._share
            self._pass(*batch)
        finally:
            for layer, momentum in zip(layers, usual, strict=True):
                layer.momentum = momentum


def _moving(layer: keras.layers.BatchNormalization) -> tuple[keras.Variable, ...]:
    return layer.moving_mean, layer.moving_variance


def _pass_of(model: keras.Model) -> Callable[[Any, Any], Any]:
    """Returns a function that runs the model as a training step does."""
    if not isinstance(model, TrainingModel):
        return lambda images, labels: model(images, training=True)

    def run(images: Any, labels: Any) -> Any:
        return model.losses_per_example(images, labels, model.prepare(images, labels))

    return run

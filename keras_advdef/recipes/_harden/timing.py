"""Times attacks and training steps on the user's own model and images."""

import math
import time
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks import Attack
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.training_state import (
    assign_values,
    training_state,
    values_of,
)
from keras_advdef.recipes._harden.batches import Batches
from keras_advdef.recipes._harden.ingredients import can_craft_in_bfloat16, crafting
from keras_advdef.recipes._harden.request import Request
from keras_advdef.recipes._harden.training_data import TrainingData
from keras_advdef.training import AdversarialTrainingModel

_TIMED = 3
# Losses on attacked images of the two precisions that count as equal.
_EQUAL_LOSS = 0.02


def chosen_precision(request: Request, data: TrainingData) -> str:
    """Returns the faster of two precisions whose attacks are equally strong.

    Args:
        request: What was asked for.
        data: The images.
    """
    if request.precision != "auto":
        return request.precision
    if request.is_certified or not can_craft_in_bfloat16(request.model):
        return "float32"
    images = tf.constant(data.arrays.images[: request.batch_size], tf.float32)
    labels = sparse_labels(data.arrays.labels[: request.batch_size])
    (full, full_loss), (half, half_loss) = (
        _crafted(request, crafting(request, name), (images, labels))
        for name in ("float32", "bfloat16")
    )
    is_equal = half_loss >= (1.0 - _EQUAL_LOSS) * full_loss
    return "bfloat16" if half < full and is_equal else "float32"


def _crafted(
    request: Request, attack: Attack, batch: tuple[tf.Tensor, tf.Tensor]
) -> tuple[float, float]:
    """Returns the seconds that an attack takes, and the loss that it reaches."""
    images, labels = batch
    craft = tf.function(
        lambda seed: attack(request.model, images, labels, seed=seed), autograph=False
    )
    key = tf.constant([request.seed, 1], tf.int64)
    craft(key)
    seconds = math.inf
    for _ in range(_TIMED):
        begun = time.perf_counter()
        adversarial = craft(key)
        _ = adversarial.numpy()
        seconds = min(seconds, time.perf_counter() - begun)
    logits = LogitsFunction(request.model, value_range=request.value_range)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.cast(labels, tf.int32), logits(request.value_range.to_unit(adversarial))
    )
    return seconds, float(tf.reduce_mean(losses))


def seconds_per_step(
    model: AdversarialTrainingModel, batches: Batches, **options: Any
) -> float:
    """Times a few real steps, and leaves the model as it was.

    Args:
        model: The compiled training model.
        batches: What it will be trained on.
        **options: Further arguments of `fit`.
    """
    # Steps at a rate of zero cannot diverge.
    rate = model.optimizer.learning_rate.numpy()
    model.optimizer.learning_rate = 0.0
    state = training_state(model)
    before = values_of(state)
    clock = _StepClock()
    try:
        model.fit(
            batches.dataset,
            epochs=1,
            verbose=0,
            shuffle=False,
            callbacks=[batches, clock],
            **options,
        )
    finally:
        assign_values(model, state, before)
        model.optimizer.learning_rate = rate
    return clock.seconds


class _StepClock(keras.callbacks.Callback):
    """Measures the fastest step, and stops after a few."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = math.inf
        self._begun = 0.0

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._begun = time.perf_counter()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        taken = time.perf_counter() - self._begun
        # The first step is traced, but may be the only one.
        self.seconds = taken if batch <= 1 else min(self.seconds, taken)
        if batch >= _TIMED:
            self.model.stop_training = True

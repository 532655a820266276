"""Statistics of BatchNormalization, recomputed for the weights a model has now.

Moving averages lag behind the weights, and belong to no weights that are themselves
averaged. Wu and Johnson (2021, "Rethinking 'Batch' in BatchNorm") call this precise
batch normalisation.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import (
    learning_normalizations,
    recorded_moments,
    seed_state_variables,
)
from keras_advdef.core.random_numbers import fold_in, make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.random_stream import preserve_variables
from keras_advdef.core.traced_function import TracedFunction
from keras_advdef.training.adversarial_training_model import AdversarialTrainingModel


class BatchStatistics:
    """Recomputes the statistics of a model's trainable BatchNormalization layers.

    The model runs as in training on some images, and mean and variance of all values
    that reach a layer become its statistics: sums over batches of any size, not moving
    averages. No variable is written, and draws start at the same states each time.

    Args:
        owner: Name of the class that recomputes.
        model: A built model.
        adversarial: Whether an adversarial training model runs on attacked images and
            with its objective, as in a step, instead of on clean images.

    Raises:
        ValueError: If a layer uses batch renormalisation.
    """

    def __init__(self, owner: str, model: keras.Model, *, adversarial: bool) -> None:
        self.layers = learning_normalizations(model)
        for layer in self.layers:
            if layer.renorm:
                rule = "one without batch renormalisation"
                raise invalid(owner, "model", rule, layer)
        self._model = model
        self._as_in_training = adversarial and is_attacked(model)
        self._moments = TracedFunction(self._traced_moments)

    @property
    def variables(self) -> list[keras.Variable]:
        """The moving mean and variance of each layer."""
        pairs = ((each.moving_mean, each.moving_variance) for each in self.layers)
        return [variable for pair in pairs for variable in pair]

    def recomputed(
        self, owner: str, batches: Iterable[tuple[Any, Any]]
    ) -> list[np.ndarray]:
        """Returns a value for each of the variables.

        Args:
            owner: Name of the class that recomputes.
            batches: Pairs of images and labels as in training; labels may be `None`
                for clean images.

        Raises:
            ValueError: If there is no batch, or images are attacked without labels.
        """
        count, sums = 0, []
        for index, (images, labels) in enumerate(batches):
            if self._as_in_training and labels is None:
                raise invalid(owner, "images", "a data set with labels", images)
            rows = [images, labels] if self._as_in_training else [images]
            rows = [tf.convert_to_tensor(each) for each in rows]
            found = self._moments(rows, tf.constant(index, tf.int64))
            size = len(rows[0])
            sums.append([size * each.numpy().astype(np.float64) for each in found])
            count += size
        if not count:
            raise invalid(owner, "images", "a data set that is not empty", [])
        values = []
        totals = [sum(each) / count for each in zip(*sums, strict=True)]
        for mean, square in zip(totals[::2], totals[1::2], strict=True):
            values += [mean, np.maximum(square - mean**2, 0.0)]
        return [value.astype(np.float32) for value in values]

    def _traced_moments(self, rows: list[tf.Tensor], index: tf.Tensor) -> Any:
        """Returns the means of the values and of their squares, for each layer."""
        # Keras's seeds count up from their state, the same in each batch without this.
        states = [*seed_state_variables(self._model), *_random_states(self._model)]
        mapping = [(state, _advanced(state, index)) for state in states]
        key = fold_in(make_key(0), index)
        with (
            preserve_variables(mapping),
            draw_scope(key),
            recorded_moments(self.layers) as calls,
        ):
            self._run(*rows)
        return [each for found in calls for each in _combined(found)]

    def _run(self, images: tf.Tensor, labels: tf.Tensor | None = None) -> None:
        if not self._as_in_training:
            self._model(images, training=True)
            return
        prepared = self._model.prepare(images, labels)
        self._model.losses_per_example(images, labels, prepared)


def is_attacked(model: keras.Model) -> bool:
    """Returns whether a model trains on attacked images.

    Args:
        model: Any model.
    """
    return isinstance(model, AdversarialTrainingModel) and model.epsilon is not None


def _random_states(model: keras.Model) -> list[keras.Variable]:
    return [model.random_state] if is_attacked(model) else []


def _advanced(state: keras.Variable, index: tf.Tensor) -> tf.Tensor:
    """Returns a state of a random stream that no step has reached."""
    value = tf.convert_to_tensor(state)
    first = tf.one_hot(0, value.shape[0], dtype=tf.int64)
    # Philox counts in the first number of its state; Keras's seeds begin with the seed.
    return value + tf.cast(first * (index + 1) * 2**20, value.dtype)


def _combined(calls: list[tuple[tf.Tensor, tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and mean square over all calls of a layer in a pass."""
    means = [tf.cast(mean, tf.float32) for mean, _ in calls]
    squares = [
        tf.cast(variance, tf.float32) + mean**2
        for mean, (_, variance) in zip(means, calls, strict=True)
    ]
    return tf.add_n(means) / len(calls), tf.add_n(squares) / len(calls)

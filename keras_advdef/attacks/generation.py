"""Runs an attack over arrays: checks, batches, padding, progress."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.arguments import checked_integer
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.random_numbers import fold_in, make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.value_range import checked_images, checked_labels


class _PerShape:
    """A function that is traced once for each combination of argument shapes.

    A `tf.function` would do the same, and warn of frequent tracing as soon as a few
    models have been attacked.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = tf.function(function)
        self._traced: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        shapes = tuple(str(each.shape) for each in tf.nest.flatten(arguments))
        if shapes not in self._traced:
            self._traced[shapes] = self._function.get_concrete_function(*arguments)
        return self._traced[shapes](*arguments)


class CompiledAttack:
    """The compiled functions of one attack on one model; kept by the attack.

    Args:
        attack: The attack.
        model: The attacked model.
        image_shape: Shape of one image.
    """

    def __init__(self, attack: Any, model: Any, image_shape: tuple[int, ...]) -> None:
        self.attack = attack
        self.model = model
        self.logits_fn = attack.logits_function(model)
        self.logits_fn.build(image_shape)
        self.signature = _signature(attack, model)
        self.craft = _PerShape(self._craft)
        self.logits = _PerShape(self._logits)
        self.start = _PerShape(self._start)
        self.advance = _PerShape(self._advance)

    def _craft(self, images: Any, labels: Any, epsilon: Any, key: Any) -> tf.Tensor:
        targets = {"target_labels": labels} if self.attack.targeted else {}
        return self.attack(
            self.logits_fn, images, labels, epsilon=epsilon, seed=key, **targets
        )

    def _logits(self, images: Any, key: Any) -> tf.Tensor:
        with draw_scope(key):
            return self.logits_fn(self.attack.value_range.to_unit(images))

    def _start(self, images: Any, labels: Any, epsilon: Any, key: Any) -> Any:
        return self.attack.start(self.logits_fn, images, labels, epsilon, key)

    def _advance(self, state: Any, epsilon: Any, key: Any) -> Any:
        return self.attack.advance(self.logits_fn, state, epsilon, key)


def _signature(attack: Any, model: Any) -> tuple[Any, ...]:
    """What a compiled function depends on: settings and the layers' identities."""
    layers = flat_layers(model) if isinstance(model, keras.layers.Layer) else []
    return (repr(attack), *map(id, layers))


def compiled_attack(
    attack: Any, model: Any, image_shape: tuple[int, ...]
) -> CompiledAttack:
    """Returns the attack's compiled functions, made anew for another model.

    Args:
        attack: The attack.
        model: The attacked model.
        image_shape: Shape of one image.

    Returns:
        The functions of the last call where attack and model are the same.
    """
    cached = attack.compiled
    if (
        cached is None
        or cached.model is not model
        or cached.signature != _signature(attack, model)
    ):
        attack.compiled = CompiledAttack(attack, model, image_shape)
    return attack.compiled


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """Returns the rows, repeated from the front until there are `size`."""
    return array if len(array) == size else np.resize(array, (size, *array.shape[1:]))


class Job:
    """Checked inputs of one `generate` call, handed out in batches.

    Args:
        attack: The attack.
        model: The attacked model.
        images: Array `(count, rows, cols, channels)`.
        labels: The classes to leave, or to reach; `None` for the predictions.
        batch_size: Images per compiled call.
        seed: Integer or `None`.
    """

    def __init__(
        self,
        attack: Any,
        model: Any,
        images: Any,
        labels: Any,
        *,
        batch_size: int,
        seed: int | None,
    ) -> None:
        owner = type(attack).__name__
        self.range = attack.value_range
        self.images = checked_images(owner, images, self.range)
        self.count = len(self.images)
        size = checked_integer(owner, "batch_size", batch_size, low=1)
        self.size = min(size, self.count)
        self.key = make_key(seed)
        self.compiled = compiled_attack(attack, model, self.images.shape[1:])
        first = self._checked_logits()
        if labels is None:
            self.labels = self._predictions(first)
        else:
            classes = first.shape[1]
            self.labels = checked_labels(
                owner, labels, count=self.count, classes=classes
            )

    def batch(self, rows: Any) -> tf.Tensor:
        """Returns the images of some rows, padded to the batch size."""
        images = self.images[rows].astype(np.float32)
        images = np.clip(images, self.range.low, self.range.high)
        return tf.constant(padded(images, self.size))

    def slices(self) -> list[slice]:
        """Returns the rows of each batch."""
        starts = range(0, self.count, self.size)
        return [slice(start, start + self.size) for start in starts]

    def _logits(self, rows: slice) -> np.ndarray:
        key = fold_in(self.key, rows.start)
        count = len(self.images[rows])
        return self.compiled.logits(self.batch(rows), key).numpy()[:count]

    def _checked_logits(self) -> np.ndarray:
        """Returns the first batch's logits, which show what the model is."""
        logits = self._logits(slice(0, self.size))
        self.compiled.logits_fn.check_values(logits)
        if not np.isfinite(logits).all():
            rule = "a model with finite logits"
            raise invalid("generate", "model", rule, self.compiled.model)
        return logits

    def _predictions(self, first: np.ndarray) -> np.ndarray:
        logits = [first, *(self._logits(rows) for rows in self.slices()[1:])]
        return np.concatenate(logits).argmax(axis=-1)


def generate(
    attack: Any,
    model: Any,
    images: Any,
    labels: Any,
    *,
    target_labels: Any,
    epsilon: float,
    seed: int | None,
    batch_size: int,
    verbose: str | int,
    stop_early: bool,
) -> np.ndarray:
    """Returns adversarial images; see `Attack.generate`."""
    attack.check_targets(target_labels)
    if attack.targeted:
        labels = target_labels
    job = Job(attack, model, images, labels, batch_size=batch_size, seed=seed)
    radius = tf.constant(epsilon, tf.float32)
    result = np.empty(job.images.shape, np.float32)
    progress = keras.utils.Progbar(
        job.count, verbose=int(verbose in ("auto", 1)), unit_name="image"
    )
    if stop_early:
        attack.generate_until_broken(
            job, radius / attack.value_range.span, result, progress
        )
        return result
    for index, rows in enumerate(job.slices()):
        labels_here = tf.constant(padded(job.labels[rows], job.size))
        adversarial = job.compiled.craft(
            job.batch(rows), labels_here, radius, fold_in(job.key, index)
        )
        result[rows] = adversarial.numpy()[: len(result[rows])]
        progress.update(min(rows.stop, job.count))
    return result

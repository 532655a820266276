"""Compiled functions of attacks, cached for the models each attacked last."""

import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_advdef.attacks._guard import finite_looks, kept_in_ball
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.logits import LogitsFunction, watch_logits
from keras_advdef.core.model_view import unwrap_view
from keras_advdef.core.progress import meter
from keras_advdef.core.random_state import draw_scope

if TYPE_CHECKING:
    from keras_advdef.attacks.attack import Attack
    from keras_advdef.attacks.stepped_attack import State

# Models cached per attack, which several threads may share.
_MOST_MODELS = 4

_lock = threading.Lock()
# Not an attribute of the attack: it could no longer be pickled or copied.
_kept: weakref.WeakKeyDictionary[Any, dict[int, "CompiledAttack"]]
_kept = weakref.WeakKeyDictionary()


class _PerShape:
    """A function that is traced once per combination of argument shapes.

    A `tf.function` does the same, but warns of frequent tracing once a few models have
    been attacked.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = tf.function(function, autograph=False)
        self._traced: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        shapes = tuple(str(each.shape) for each in tf.nest.flatten(arguments))
        traced = self._traced.get(shapes)
        if traced is None:
            began = time.perf_counter()
            traced = self._function.get_concrete_function(*arguments)
            meter.tracing += time.perf_counter() - began
            self._traced[shapes] = traced
        return traced(*arguments)


class CompiledAttack:
    """The compiled functions of one attack on one model; holds a reference to neither.

    Args:
        attack: Returns the attack.
        model: Returns the attacked model.
        signature: What the functions depend on besides attack and model.
    """

    def __init__(
        self,
        attack: Callable[[], Any],
        model: Callable[[], Any],
        signature: tuple[Any, ...],
    ) -> None:
        self._attack = attack
        self._model = model
        self.signature = signature
        self.craft = _PerShape(self._craft)
        self.logits = _PerShape(self._logits)
        self.start = _PerShape(self._start)
        self.advance = _PerShape(self._advance)
        self.confirm = _PerShape(self._confirm)

    def fits(self, model: Any, signature: tuple[Any, ...]) -> bool:
        """Returns whether the functions still fit a model."""
        return self._model() is model and self.signature == signature

    def _parts(self) -> tuple[Any, LogitsFunction]:
        """Returns the attack, and the model as it calls it; fresh for each trace."""
        attack = self._attack()
        return attack, attack.logits_function(self._model())

    def _craft(
        self, images: tf.Tensor, labels: tf.Tensor, epsilon: tf.Tensor, key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns images, and whether clean logits are finite, if any were seen."""
        attack, logits_fn = self._parts()
        unit = attack.value_range.to_unit(images)
        with watch_logits(unit) as looks:
            found = attack.perturb(logits_fn, unit, labels, epsilon, key)
            found = kept_in_ball(found, unit, epsilon, attack.norm)
        return attack.value_range.pixels_of(found), finite_looks(logits_fn, looks)

    def _logits(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        attack, logits_fn = self._parts()
        with draw_scope(key):
            return logits_fn.full_precision(attack.value_range.to_unit(images))

    def _start(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> "State":
        attack, logits_fn = self._parts()
        return attack.start(logits_fn, images, labels, epsilon, key, run)

    def _confirm(
        self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        attack, logits_fn = self._parts()
        return attack.confirm(logits_fn, images, labels, key)

    def _advance(self, state: "State", epsilon: tf.Tensor, key: tf.Tensor) -> "State":
        attack, logits_fn = self._parts()
        moved = attack.advance(logits_fn, state, epsilon, key)
        best = kept_in_ball(moved["best"], moved["images"], epsilon, attack.norm)
        return {**moved, "best": best}


def compiled_attack(attack: "Attack", model: Any) -> CompiledAttack:
    """Returns an attack's compiled functions for a model, in any thread.

    They are cached for the last few models, and compiled again if attack or model
    changed. The cache is freed with the attack or the model.

    Args:
        attack: The attack.
        model: The attacked model, built.

    Example:

    >>> from keras_advdef.attacks._compiled_attack import compiled_attack
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> attack = keras_advdef.attacks.FGSM(0.1)
    >>> compiled_attack(attack, model) is compiled_attack(attack, model)
    True
    """
    signature = _signature(attack, model)
    with _lock:
        kept = _kept.setdefault(attack, {})
        found = kept.pop(id(model), None)
        if found is None or not found.fits(model, signature):
            reference = _reference(model, kept)
            found = CompiledAttack(weakref.ref(attack), reference, signature)
        # Last in order: the first one is the least recently used.
        kept[id(model)] = found
        for oldest in list(kept)[:-_MOST_MODELS]:
            kept.pop(oldest, None)
    return found


def _reference(model: Any, kept: dict[int, CompiledAttack]) -> Callable[[], Any]:
    place = id(model)
    try:
        # The garbage collector may call it at any time: it must not take the lock.
        return weakref.ref(model, lambda _: kept.pop(place, None))
    except TypeError:
        return lambda: model


def _signature(attack: "Attack", model: Any) -> tuple[tf.Tensor, ...]:
    """What a compiled function depends on: settings and the layers' identities."""
    model = unwrap_view(model)
    layers = flat_layers(model) if isinstance(model, keras.layers.Layer) else []
    return (repr(attack), *map(id, layers))

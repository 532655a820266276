"""Compiled functions of attacks, shared by all attacks that run the same code.

An argument that is only a number (steps, step size, momentum, the temperature of a
view) is a tensor of the compiled function. So PGD-20, PGD-50, FGSM, each radius of a
curve and a model of divided logits share one trace.
"""

import copy
import dataclasses
import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks._trace_key import arguments_key, code_of, is_plain, view_key
from keras_advdef.attacks._traced_attack import Numbers, TracedAttack
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.traced_function import TracedFunction

if TYPE_CHECKING:
    from keras_advdef.attacks.attack import Attack
    from keras_advdef.attacks.stepped_attack import State

# Models whose functions are cached, and functions of each.
_MOST_MODELS = 8
_MOST_FUNCTIONS = 128

_lock = threading.Lock()


@dataclasses.dataclass(eq=False)
class _Cache:
    """The functions of one model. It holds no reference to the model."""

    model: Callable[[], Any]
    functions: OrderedDict[Any, TracedFunction] = dataclasses.field(
        default_factory=OrderedDict
    )

    def function(self, key: Any, make: Callable[[], TracedFunction]) -> TracedFunction:
        with _lock:
            found = self.functions.get(key)
            if found is None:
                found = self.functions[key] = make()
            self.functions.move_to_end(key)
            if len(self.functions) > _MOST_FUNCTIONS:
                self.functions.popitem(last=False)
            return found


_caches: OrderedDict[int, _Cache] = OrderedDict()


def _cache_of(model: Any) -> _Cache:
    place = id(model)
    with _lock:
        found = _caches.get(place)
        if found is None or found.model() is not model:
            found = _caches[place] = _Cache(_reference(model))
        _caches.move_to_end(place)
        while len(_caches) > _MOST_MODELS:
            _caches.popitem(last=False)
        return found


def _reference(model: Any) -> Callable[[], Any]:
    place = id(model)
    try:
        # The garbage collector may call it at any time: it must not take the lock.
        return weakref.ref(model, lambda _: _caches.pop(place, None))
    except TypeError:
        return lambda: model


class CompiledAttack:
    """The compiled functions of one attack on one model.

    They are cached with the model, shared by attacks of the same code and the same
    static arguments, and traced when they are first called.

    Args:
        attack: The attack.
        model: The attacked model, built, or a `ModelView` of it.

    Example:

    >>> from keras_advdef.attacks._compiled_attack import CompiledAttack
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> attacks = keras_advdef.attacks.FGSM(0.1), keras_advdef.attacks.PGD(0.2)
    >>> first, second = (CompiledAttack(each, model) for each in attacks)
    >>> first.function("look") is second.function("look")
    True
    """

    def __init__(self, attack: "Attack", model: Any) -> None:
        # A `SteppedAttack` where its steps are called.
        self._attack: Any = attack
        view = model if isinstance(model, ModelView) else ModelView(model)
        self._cache = _cache_of(view.model)
        self._temperature = tf.constant(view.temperature, tf.float32)
        self._view = dataclasses.replace(view, model=None, temperature=1.0)
        self._view_key = view_key(view)
        # Whether the logits of a run's first points are finite, if that was seen.
        self.first_look: tf.Tensor | None = None
        self._functions: dict[str, TracedFunction] = {}

    def function(self, name: str) -> TracedFunction:
        """Returns one of the functions.

        Args:
            name: A method of `TracedAttack`.
        """
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = self._shared(name)
        return found

    def _shared(self, name: str) -> TracedFunction:
        kind = code_of(type(self._attack), name)
        arguments = arguments_key(self._attack, kind, name)
        key: Any = (name, kind, self._view_key, arguments)

        def make() -> TracedFunction:
            held: Callable[[], Any] = weakref.ref(self._attack)
            if is_plain(self._attack):
                held = functools.partial(_same, copy.copy(self._attack))
            else:
                drop = self._cache.functions.pop
                weakref.finalize(self._attack, drop, key, None).atexit = False
            traced = TracedAttack(held, self._cache.model, self._view)
            return TracedFunction(getattr(traced, name))

        return self._cache.function(key, make)

    def craft(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        mask: tuple[tf.Tensor, ...] = (),
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns images, and whether clean logits are finite, if any were seen."""
        rows = images, labels, epsilon, *mask
        found = self.function("craft")(rows, self._temperature, key)
        return found if isinstance(found, tuple) else (found, None)

    def logits(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Returns the logits of images in the attack's value range."""
        return self.function("logits")(images, self._temperature, key)

    def classes(self, images: tf.Tensor) -> int | None:
        """Returns the number of classes; `None` if only a pass can tell."""
        outputs = self.function("logits").outputs(
            images, self._temperature, make_key(0)
        )
        return outputs.shape[-1]

    def start(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
        mask: tuple[tf.Tensor, ...] = (),
        *,
        name: str = "start",
    ) -> "State":
        """Returns the state before the first step; see `SteppedAttack.start`.

        Args:
            images: Images in the attack's value range.
            labels: Classes to leave or to reach, `(batch,)`.
            epsilon: Radius on the `[0, 1]` scale, a scalar or `(batch,)`.
            key: Key for the draws.
            run: Number of the run of each image, int32, `(batch,)`.
            mask: Which values may change, of the images' shape; empty for all.
            name: "start", or "begin" for images that stay to the end.
        """
        rows = images, labels, epsilon, run, *mask
        return self.function(name)(rows, self._temperature, key)

    def advance(
        self,
        state: "State",
        epsilon: tf.Tensor,
        key: tf.Tensor,
        count: int,
        taken: int = 0,
    ) -> "State":
        """Returns the state some steps later, its last point evaluated.

        Args:
            state: The state.
            epsilon: Radius on the `[0, 1]` scale.
            key: Key for the draws.
            count: Steps to take; an image that has had all of them stays.
            taken: Steps taken before, which decide over how many draws one averages.
        """
        state = self.repeat(state, epsilon, key, count, taken)
        if not self._attack.looks_apart():
            rows, more = (state, epsilon), (self._temperature, key, _number(count))
            return {**state, **self.function("settle")(rows, *more)}
        draws = self._attack.draws_at(taken + count)
        seen, glance = self._attack.seen(state), self.function("glance")
        found = mean_over_draws(
            lambda sample: glance(seen, self._temperature, key, _index(sample)), draws
        )
        keep = self.function("keep")
        return {**state, **keep((state, found, epsilon), _number(count))}

    def repeat(
        self,
        state: "State",
        epsilon: tf.Tensor,
        key: tf.Tensor,
        count: int,
        taken: int = 0,
    ) -> "State":
        """Returns the state some steps later; see `advance`."""
        attack, numbers = self._attack, self._tensors(epsilon)
        steps, looks_apart = _number(attack.steps), attack.looks_apart()
        for place in range(count):
            index = _index(place)
            if looks_apart:
                slope = self._slope(state, key, index, taken + place)
                rows = state, slope, numbers, epsilon
                moved = self.function("move")(rows, index, steps)
            else:
                more = self._temperature, key, index, steps
                moved = self.function("step")((state, numbers, epsilon), *more)
            state = {**state, **moved}
        return state

    def _slope(
        self, state: "State", key: tf.Tensor, index: tf.Tensor, taken: int
    ) -> tuple[tf.Tensor, ...]:
        """Returns what `GradientAttack.slope` does, of as many draws as it is time."""
        seen, look = self._attack.seen(state), self.function("look")
        losses, probabilities, gradient, *is_finite = mean_over_draws(
            lambda sample: look(seen, self._temperature, key, index, _index(sample)),
            self._attack.draws_at(taken),
        )
        if not taken:
            self.first_look = is_finite[0] == 1.0 if is_finite else None
        return losses, probabilities, gradient

    def confirm(
        self, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns whether images succeed in float32 and on fresh draws."""
        return self.function("confirm")((images, labels), self._temperature, key)

    def pixels(
        self, found: tf.Tensor, images: tf.Tensor, epsilon: tf.Tensor
    ) -> tf.Tensor:
        """Returns what was found in the ball, in the attack's value range."""
        return self.function("pixels")((found, images, epsilon))

    def _tensors(self, epsilon: tf.Tensor) -> Numbers:
        """The numbers that the attack's steps get as tensors."""
        kind = code_of(type(self._attack), "move")
        return self._attack.tensors(epsilon) if "tensors" in vars(kind) else {}


def _same(value: Any) -> Any:
    return value


@functools.lru_cache(1024)
def _index(place: int) -> tf.Tensor:
    with tf.init_scope():
        return tf.constant(place, tf.int64)


@functools.lru_cache(1024)
def _number(value: int) -> tf.Tensor:
    with tf.init_scope():
        return tf.constant(value, tf.float32)

"""ModelView: a model as a particular attacker sees it."""

import contextlib
import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core._function_scope import FunctionScope
from keras_advdef.core.gradients import (
    bypass_defences,
    smooth_gradients,
    straight_through,
)
from keras_advdef.core.keras_private import flat_layers

_Call = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class ModelView:
    """A model as a particular attacker sees it; attacks accept it like a model.

    Args:
        model: A Keras model, or a function from images to logits.
        bypass_defences: Whether the defences of this package pass their inputs through.
        smooth_gradients: Whether layers that have a differentiable approximation use it
            in the backward pass.
        bpda_layers: Layers and operations whose backward pass is the identity (BPDA).
        temperature: Number above 0. Divides the logits, which undoes saturation.
        has_gradient: Whether gradients reach the images. If not, they are zero, not
            missing, so that a gradient attack runs and finds nothing.
        is_random: Whether two calls may differ; `None` to look for random layers.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> view = keras_advdef.core.ModelView(model, temperature=10.0)
    >>> logits = keras_advdef.core.LogitsFunction
    >>> images = tf.ones((1, 2))
    >>> bool(np.allclose(logits(view)(images), logits(model)(images) / 10.0))
    True
    """

    model: Any
    _: dataclasses.KW_ONLY
    bypass_defences: bool = False
    smooth_gradients: bool = False
    bpda_layers: tuple[keras.Operation, ...] = ()
    temperature: float | tf.Tensor = 1.0
    has_gradient: bool = True
    is_random: bool | None = None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Applies the view to calls and traces of the model in the body."""
        with contextlib.ExitStack() as stack:
            if self.bypass_defences:
                stack.enter_context(bypass_defences())
            if self.smooth_gradients:
                stack.enter_context(smooth_gradients())
            for operation in self.bpda_layers:
                stack.enter_context(_identity_gradient(operation))
            yield

    def seen(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images that the model receives."""
        return images if self.has_gradient else tf.stop_gradient(images)

    def logits(self, images: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the viewed logits for the logits of the model, in their dtype."""
        if not self.has_gradient:
            # Connects the outputs to the images with a zero gradient.
            images = tf.convert_to_tensor(images)
            sums = tf.reduce_sum(images, axis=list(range(1, images.shape.rank)))
            outputs += tf.cast(0.0 * sums[:, None], outputs.dtype)
        if isinstance(self.temperature, float) and self.temperature == 1.0:
            return outputs
        return outputs / tf.cast(self.temperature, outputs.dtype)


def unwrap_view(model: Any) -> Any:
    """Returns the model of a view, and anything else unchanged.

    Args:
        model: A model, function or `ModelView`.

    Example:

    >>> view = keras_advdef.core.model_view.ModelView(len)
    >>> keras_advdef.core.model_view.unwrap_view(view) is len
    True
    """
    return model.model if isinstance(model, ModelView) else model


@contextlib.contextmanager
def _identity_gradient(operation: keras.Operation) -> Iterator[None]:
    """Replaces the backward pass of a layer or operation while the body runs."""

    def straight(forward: _Call) -> _Call:
        def call(inputs: tf.Tensor, *args: Any, **kwargs: Any) -> tf.Tensor:
            outputs = forward(inputs, *args, **kwargs)
            return straight_through(tf.cast(inputs, outputs.dtype), outputs)

        return call

    with replace_call(operation, straight):
        yield


class _CallOfThread:
    """Replaces the `call` of an operation by one that differs between threads.

    Attributes:
        original: The call of all other threads.
        holders: Number of active `replace_call` over all threads.
    """

    def __init__(self, original: _Call) -> None:
        self.original = original
        self.holders = 0
        self.scope = FunctionScope()

    @property
    def current(self) -> _Call:
        return self.scope.value() or self.original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.current(*args, **kwargs)


_lock = threading.Lock()


@contextlib.contextmanager
def replace_call(
    operation: keras.Operation, replace: Callable[[_Call], _Call]
) -> Iterator[None]:
    """Makes a layer or operation call another function while the body runs.

    Other threads are not affected.

    Args:
        operation: A layer or `keras.Operation`.
        replace: Maps the current `call` of this thread to its replacement.

    Example:

    >>> layer = keras.layers.ReLU()
    >>> with keras_advdef.core.model_view.replace_call(
    ...     layer, lambda relu: lambda inputs: relu(inputs) + 1.0
    ... ):
    ...     float(layer(tf.constant(2.0)))
    3.0
    >>> float(layer(tf.constant(2.0)))
    2.0
    """
    # Not `setattr`, which Keras tracks.
    attributes = vars(operation)
    with _lock:
        call = operation.call
        if not isinstance(call, _CallOfThread):
            attributes["call"] = call = _CallOfThread(call)
        call.holders += 1
    try:
        with call.scope.holding(replace(call.current)):
            yield
    finally:
        with _lock:
            call.holders -= 1
            if not call.holders:
                del attributes["call"]


@contextlib.contextmanager
def inline_calls(model: keras.layers.Layer) -> Iterator[None]:
    """Traces layers whose `call` is a `tf.function` as part of the caller.

    A separate trace would ignore the current view, draw scope and preserved variables,
    or keep them after they end. Other threads are not affected.

    Args:
        model: Any model.

    Example:

    >>> class Doubled(keras.layers.Layer):
    ...     @tf.function
    ...     def call(self, inputs):
    ...         return 2.0 * inputs
    >>> layer = Doubled()
    >>> with keras_advdef.core.model_view.inline_calls(layer):
    ...     float(layer(tf.constant(3.0)))
    6.0
    """
    with contextlib.ExitStack() as stack:
        for layer in flat_layers(model):
            if is_tf_function(_original(layer.call)):
                stack.enter_context(replace_call(layer, inline_function))
        yield


def _original(call: _Call) -> _Call:
    return call.original if isinstance(call, _CallOfThread) else call


def is_tf_function(function: object) -> bool:
    """Returns whether an object is a `tf.function`, which keeps its traces.

    Args:
        function: Anything.

    Example:

    >>> keras_advdef.core.model_view.is_tf_function(tf.function(len))
    True
    """
    return isinstance(function, tf.types.experimental.PolymorphicFunction)


def inline_function(function: Any) -> _Call:
    """Returns the Python function of a `tf.function`, and others unchanged.

    Args:
        function: Any function.

    Example:

    >>> keras_advdef.core.model_view.inline_function(len) is len
    True
    """
    if not is_tf_function(function):
        return function
    plain = function.python_function
    if inspect.ismethod(plain):
        return functools.partial(tf.autograph.to_graph(plain.__func__), plain.__self__)
    return tf.autograph.to_graph(plain)

"""ModelView: a model as one particular attacker sees it."""

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


@dataclasses.dataclass(frozen=True, eq=False)
class ModelView:
    """A model together with what its attacker knows and does; attacks take it as model.

    Args:
        model: A Keras model or a function from images to logits.
        bypass_defences: Whether the defences of this package pass their inputs through.
        smooth_gradients: Whether layers that have a differentiable approximation use it
            in the backward pass.
        bpda_layers: Layers and operations whose backward pass is the identity (BPDA).
        temperature: Divides the logits, which undoes saturation.
        has_gradient: Whether gradients reach the images. Without, they are zero, never
            missing, so that a gradient attack runs and finds nothing.
        is_random: Whether two calls may differ; `None` to look for random layers.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> view = keras_advdef.core.model_view.ModelView(model, temperature=10.0)
    >>> logits = keras_advdef.core.logits.LogitsFunction
    >>> images = tf.ones((1, 2))
    >>> bool(np.allclose(logits(view)(images), logits(model)(images) / 10.0))
    True
    """

    model: Any
    _: dataclasses.KW_ONLY
    bypass_defences: bool = False
    smooth_gradients: bool = False
    bpda_layers: tuple[Any, ...] = ()
    temperature: float = 1.0
    has_gradient: bool = True
    is_random: bool | None = None

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Makes the model behave as viewed while it is called or traced."""
        with contextlib.ExitStack() as stack:
            if self.bypass_defences:
                stack.enter_context(bypass_defences())
            if self.smooth_gradients:
                stack.enter_context(smooth_gradients())
            for operation in self.bpda_layers:
                stack.enter_context(_identity_gradient(operation))
            yield

    def seen(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images as the model gets them."""
        return images if self.has_gradient else tf.stop_gradient(images)

    def logits(self, images: tf.Tensor, outputs: Any) -> Any:
        """Returns logits for what the model returned, still of any dtype."""
        if not self.has_gradient:
            # Connects the outputs to the images, with a gradient of zero.
            images = tf.convert_to_tensor(images)
            sums = tf.reduce_sum(images, axis=list(range(1, images.shape.rank)))
            outputs += tf.cast(0.0 * sums[:, None], outputs.dtype)
        return outputs if self.temperature == 1.0 else outputs / self.temperature


def unwrap_view(model: Any) -> Any:
    """Returns the model behind a view, and anything else as it is.

    Args:
        model: A model, function or `ModelView`.

    Example:

    >>> view = keras_advdef.core.model_view.ModelView(len)
    >>> keras_advdef.core.model_view.unwrap_view(view) is len
    True
    """
    return model.model if isinstance(model, ModelView) else model


@contextlib.contextmanager
def _identity_gradient(operation: Any) -> Iterator[None]:
    """Replaces the backward pass of a layer or operation while the body runs."""

    def straight(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = forward(inputs, *args, **kwargs)
            return straight_through(tf.cast(inputs, outputs.dtype), outputs)

        return call

    with replace_call(operation, straight):
        yield


class _CallOfThread:
    """Stands for the `call` of an operation: each thread has its own or the original.

    Attributes:
        original: What the operation calls in all other threads.
        holders: How many `replace_call` are entered in all threads.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original
        self.holders = 0
        self.scope = FunctionScope()

    @property
    def current(self) -> Callable[..., Any]:
        return self.scope.value() or self.original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.current(*args, **kwargs)


_lock = threading.Lock()


@contextlib.contextmanager
def replace_call(
    operation: Any, replace: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Makes a layer or operation call another function while the body runs.

    Other threads see nothing of it.

    Args:
        operation: A layer or `keras.Operation`.
        replace: Function from what this thread calls so far to what it calls instead.

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
    # Not by `setattr`, which Keras tracks.
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
    """Makes what the layers of a model have as a `tf.function` a part of the caller.

    Its trace would know nothing of a view, of draws and of what is kept, or would go
    on with all of it after the view has ended. Other threads see nothing of it.

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


def _original(call: Callable[..., Any]) -> Callable[..., Any]:
    return call.original if isinstance(call, _CallOfThread) else call


def is_tf_function(function: Any) -> bool:
    """Returns whether something is a `tf.function`, which is traced only once.

    Args:
        function: Anything.

    Example:

    >>> keras_advdef.core.model_view.is_tf_function(tf.function(len))
    True
    """
    return isinstance(function, tf.types.experimental.PolymorphicFunction)


def inline_function(function: Any) -> Callable[..., Any]:
    """Returns what a `tf.function` traces, and any other function as it is.

    Args:
        function: Any function.

    Example:

    >>> import keras_advdef
    >>> keras_advdef.core.model_view.inline_function(len) is len
    True
    """
    if not is_tf_function(function):
        return function
    plain = function.python_function
    if inspect.ismethod(plain):
        return functools.partial(tf.autograph.to_graph(plain.__func__), plain.__self__)
    return tf.autograph.to_graph(plain)

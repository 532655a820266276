"""Functions of tensors that XLA compiles for themselves, whatever surrounds them."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_advdef.core.keras_private import conversion_format

_active = threading.local()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that XLA compiles into one kernel.

    Chains of elementwise operations are then fused, also inside a model that is not
    jitted: on a CPU that makes them many times faster. It runs in eager mode, in any
    graph, inside other compiled functions, in SavedModels and on every replica of a
    strategy, and gradients of any order pass. Each shape, batch size included, is
    compiled once. ONNX knows no such kernels: a graph that is converted to it gets the
    operations themselves.

    Args:
        function: Function of tensors, whose other arguments are hashable. It must draw
            nothing and touch no variable: hand keys and values in.

    Example:

    >>> @keras_advdef.layers._compiled.compiled
    ... def doubled(images):
    ...     return 2.0 * images
    >>> float(doubled(tf.constant(3.0)))
    6.0
    """

    @functools.wraps(function)
    def alone(*args: Any, **kwargs: Any) -> Any:
        # What it calls becomes part of this kernel.
        outer, _active.kernel = _is_in_kernel(), True
        try:
            return function(*args, **kwargs)
        finally:
            _active.kernel = outer

    kernel = traced_once(alone, jit_compile=True)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        is_part = _is_in_kernel() or conversion_format() == "onnx"
        return (function if is_part else kernel)(*args, **kwargs)

    return call


def _is_in_kernel() -> bool:
    return getattr(_active, "kernel", False)


def traced_once(
    function: Callable[..., Any], *, jit_compile: bool | None = None
) -> Callable[..., Any]:
    """Returns a function that is one node of every graph that calls it.

    As `tf.function` it is traced once for each kind of arguments, whichever layer or
    graph asks. Tools that freeze a graph, converters among them, delete what they find
    in it from TensorFlow's library, even what others use: it is then traced again.

    Args:
        function: Function of tensors, whose other arguments are hashable. It must
            touch no variable.
        jit_compile: Whether XLA compiles it; see `compiled`.

    Example:

    >>> doubled = keras_advdef.layers._compiled.traced_once(lambda x: 2.0 * x)
    >>> float(doubled(tf.constant(3.0)))
    6.0
    """

    def fresh() -> Any:
        return tf.function(function, jit_compile=jit_compile, autograph=False)

    # The last one is in use. TensorFlow complains of the end of those that it lost.
    traced = [fresh()]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return traced[-1](*args, **kwargs)
        except tf.errors.NotFoundError:
            traced.append(fresh())
            return traced[-1](*args, **kwargs)

    return call

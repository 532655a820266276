"""TracedFunction: a compiled function of batches of any size; and outside_of_traces."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_advdef.core.progress import meter
from keras_advdef.core.replicas import share_place

# Views of a model change it while it is traced, for all threads.
_tracing = threading.RLock()


class TracedFunction:
    """A function that is traced once for batches of any size.

    A `tf.function` would be traced again for other batch sizes, and would warn of
    frequent tracing once a few models have been attacked. A function that cannot be
    traced without the batch size is traced once for each size, and each replica of a
    strategy traces its own.

    Args:
        function: Called as `function(rows, *others)`.

    Call arguments:
        rows: Tensors in any structure; the first axis of each may have any length.
        *others: Tensors in any structure, of fixed shapes.

    Example:

    >>> from keras_advdef.core.traced_function import TracedFunction
    >>> double = TracedFunction(lambda rows: 2.0 * rows)
    >>> [double(tf.ones(count)).shape[0] for count in (2, 3)], double.traces
    ([2, 3], 1)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._traced: dict[tuple[Any, ...], Any] = {}
        self._needs_size = False

    @property
    def traces(self) -> int:
        """Number of traces so far."""
        return len(self._traced)

    def __call__(self, rows: Any, *others: Any) -> Any:
        traced, flat = self._find(rows, others)
        return traced(*flat)

    def outputs(self, rows: Any, *others: Any) -> Any:
        """Returns the `tf.TensorSpec` of each tensor that a call with these returns."""
        return self._find(rows, others)[0].structured_outputs

    def _find(self, rows: Any, others: tuple[Any, ...]) -> tuple[Any, list[tf.Tensor]]:
        """Returns the trace for some tensors, and all of them in one list."""
        loose, fixed = tf.nest.flatten(rows), tf.nest.flatten(others)
        traced = self._traced.get(self._place(loose, fixed))
        if traced is None:
            with _tracing:
                traced = self._trace(rows, others)
            self._traced[self._place(loose, fixed)] = traced
        return traced, [*loose, *fixed]

    def _place(self, loose: list[tf.Tensor], fixed: list[tf.Tensor]) -> tuple[Any, ...]:
        """Returns what the trace for some tensors depends on."""
        first = 0 if self._needs_size else 1
        rows = ((each.shape.rank, each.shape[first:], each.dtype) for each in loose)
        # Each replica has its own device, and its own copy of the model's variables.
        place = share_place() or 0
        return (place, *rows, *((each.shape, each.dtype) for each in fixed))

    def _trace(self, rows: Any, others: tuple[Any, ...]) -> Any:
        began = time.perf_counter()
        meter.traces += 1
        try:
            if not self._needs_size:
                with contextlib.suppress(Exception):
                    return self._concrete(rows, others, any_size=True)
            # An error that does not come from the unknown size is raised here.
            traced = self._concrete(rows, others, any_size=False)
            self._needs_size = True
            return traced
        finally:
            meter.tracing += time.perf_counter() - began

    def _concrete(self, rows: Any, others: tuple[Any, ...], *, any_size: bool) -> Any:
        structure = (rows, others)

        def function(*flat: tf.Tensor) -> Any:
            rows, others = tf.nest.pack_sequence_as(structure, flat)
            return self._function(rows, *others)

        loose = [_spec(each, any_size=any_size) for each in tf.nest.flatten(rows)]
        fixed = [_spec(each, any_size=False) for each in tf.nest.flatten(others)]
        traced = tf.function(function, autograph=False)
        return traced.get_concrete_function(*loose, *fixed)


def _spec(value: tf.Tensor, *, any_size: bool) -> tf.TensorSpec:
    shape = value.shape
    if any_size and shape.rank:
        shape = [None, *shape[1:]]
    return tf.TensorSpec(shape, value.dtype)


@contextlib.contextmanager
def outside_of_traces() -> Iterator[None]:
    """Creates the variables of the body as if no function were being traced.

    A `tf.function` that creates variables is traced twice, even if `tf.init_scope`
    lifts them out of it.

    Example:

    >>> from keras_advdef.core.traced_function import outside_of_traces
    >>> variables, traces = [], []
    >>> @tf.function
    ... def step():
    ...     traces.append(1)
    ...     with outside_of_traces():
    ...         variables.append(tf.Variable(2.0))
    ...     return 1.0 * variables[0]
    >>> float(step()), len(traces)
    (2.0, 1)
    """

    def create(next_creator: Callable[..., tf.Variable], **given: Any) -> tf.Variable:
        given["experimental_enable_variable_lifting"] = False
        return next_creator(**given)

    with tf.init_scope(), tf.variable_creator_scope(create):
        yield

"""FunctionScope: a value local to one thread and one traced function."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_FuncGraph = tf.__internal__.FuncGraph


def current_function() -> tf.Graph | None:
    """Returns the graph of the function being traced, `None` in eager mode.

    Example:

    >>> from keras_advdef.core._function_scope import current_function
    >>> current_function() is None
    True
    """
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    # Loops and branches have their own graphs, of subclasses.
    while isinstance(graph, _FuncGraph) and type(graph) is not _FuncGraph:
        graph = graph.outer_graph
    return graph


def outer_functions(function: tf.Graph | None) -> Iterator[tf.Graph | None]:
    """Yields the graphs of the functions that enclose a traced one.

    Args:
        function: A graph, or `None`.

    Example:

    >>> list(keras_advdef.core._function_scope.outer_functions(None))
    []
    """
    while isinstance(function, _FuncGraph):
        function = function.outer_graph
        yield function


def is_symbolic_call(function: tf.Graph | None) -> bool:
    """Returns whether Keras traces a function only to infer shapes.

    Args:
        function: Graph of the function being traced, or `None`.

    Example:

    >>> keras_advdef.core._function_scope.is_symbolic_call(None)
    False
    """
    # Keras 3.15 offers no public way to ask.
    return str(getattr(function, "name", "")).startswith("scratch_graph")


class FunctionScope:
    """A value that holds while a body runs, in its thread and its traced function.

    A `tf.function` traced inside the body, as models and layers may contain, does not
    see the value: its trace outlives the body and serves all threads.

    Example:

    >>> scope = keras_advdef.core._function_scope.FunctionScope()
    >>> with scope.holding(3):
    ...     scope.value(), int(tf.function(lambda: scope.value() or 0)())
    (3, 0)
    >>> scope.value() is None
    True
    """

    def __init__(self) -> None:
        self._active = threading.local()

    @contextlib.contextmanager
    def holding(self, value: Any) -> Iterator[None]:
        """Makes `self.value()` return `value`, not `None`, while the body runs."""
        outer = self._entry()
        self._active.entry = (value, current_function())
        try:
            yield
        finally:
            self._active.entry = outer

    def value(self) -> Any:
        """Returns the current value, or `None`."""
        entry = self._entry()
        if entry is None or entry[1] is not current_function():
            return None
        return entry[0]

    def is_left(self) -> bool:
        """Returns whether the thread has a value that this function does not see."""
        return self._entry() is not None and self.value() is None

    def _entry(self) -> tuple[Any, tf.Graph | None] | None:
        return getattr(self._active, "entry", None)

"""FunctionScope: what holds in one thread, within the function that is traced."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_FuncGraph = tf.__internal__.FuncGraph


def current_function() -> Any:
    """Returns the graph of the function that is being traced, `None` in eager mode.

    Example:

    >>> from keras_advdef.core._function_scope import current_function
    >>> current_function() is None
    True
    """
    if tf.executing_eagerly():
        return None
    graph = tf.compat.v1.get_default_graph()
    # Loops and branches have graphs of their own, which are of its subclasses.
    while isinstance(graph, _FuncGraph) and type(graph) is not _FuncGraph:
        graph = graph.outer_graph
    return graph


def outer_functions(function: Any) -> Iterator[Any]:
    """Yields the graphs of the functions within which one is being traced.

    Args:
        function: A graph, or `None`.

    Example:

    >>> list(keras_advdef.core._function_scope.outer_functions(None))
    []
    """
    while isinstance(function, _FuncGraph):
        function = function.outer_graph
        yield function


def is_symbolic_call(function: Any) -> bool:
    """Returns whether Keras traces a function only to find out shapes.

    Args:
        function: The graph of a function that is being traced, or `None`.

    Example:

    >>> keras_advdef.core._function_scope.is_symbolic_call(None)
    False
    """
    # Keras 3.15 has no public way to ask.
    return str(getattr(function, "name", "")).startswith("scratch_graph")


class FunctionScope:
    """A value that holds while a body runs, in its thread and in its function.

    It ends at the bounds of a `tf.function` that is traced within the body, as models
    and layers may have: that goes on with its trace long after, for all threads.

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
        """Makes `value` return a value, which is not `None`, while the body runs."""
        outer = self._entry()
        self._active.entry = (value, current_function())
        try:
            yield
        finally:
            self._active.entry = outer

    def value(self) -> Any:
        """Returns the value that holds here, `None` outside of any."""
        entry = self._entry()
        holds = entry is not None and entry[1] is current_function()
        return entry[0] if holds else None

    def is_left(self) -> bool:
        """Returns whether a value holds outside, and no longer in this function."""
        return self._entry() is not None and self.value() is None

    def _entry(self) -> Any:
        return getattr(self._active, "entry", None)

"""The ways in which a function of tensors is run."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tests.support.kernels import missing_kernels_of


def graph_and_xla(
    function: Callable[..., Any], *inputs: tf.Tensor
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns a function as a graph and compiled by XLA, both of one trace.

    Nothing in the graph may keep it from running wholly on a GPU, or with XLA.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(*inputs)
    assert missing_kernels_of(traced) == {}
    return traced, compiled_by_xla(traced)


def compiled_by_xla(traced: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function that is already traced."""

    def call(*inputs: tf.Tensor) -> Any:
        return traced(*inputs)

    return tf.function(call, jit_compile=True, autograph=False)

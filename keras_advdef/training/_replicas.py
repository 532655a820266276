"""What the replicas of a distribution strategy write together."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def assign_on_replicas(
    strategy: tf.distribute.Strategy,
    variables: Sequence[tf.Variable],
    values: Sequence[Any],
) -> None:
    """Writes variables on all local replicas, inside a merged call.

    Args:
        strategy: What `merge_call` passes.
        variables: The variables.
        values: Their values as `merge_call` passes them, one for each replica.
    """
    local = strategy.experimental_local_results
    for variable, value in zip(variables, values, strict=True):
        # All replicas may share one variable, which each of them saved.
        for part, own in zip(local(variable), local(value), strict=False):
            part.assign(own)

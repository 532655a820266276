"""Dtype policies of layers that one thread sets for itself."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras

_active = threading.local()


class _PolicyInThread:
    """Stands for the policy of a layer: what this thread has set instead, or its own.

    Keras keeps it in one attribute of the layer, which all threads see. There it still
    lies; only who asks for it is asked who he is.
    """

    def __get__(self, layer: Any, owner: type) -> Any:
        if layer is None:
            return self
        policies = _active.__dict__.get("policies", {})
        if id(layer) in policies:
            return policies[id(layer)]
        if "_dtype_policy" not in vars(layer):
            # As for any attribute of an object that is only half made.
            raise AttributeError("_dtype_policy")
        return own_policy(layer)

    def __set__(self, layer: Any, policy: Any) -> None:
        vars(layer)["_dtype_policy"] = policy


keras.layers.Layer._dtype_policy = _PolicyInThread()


def own_policy(layer: keras.layers.Layer) -> Any:
    """Returns the dtype policy that a layer has in all other threads.

    Args:
        layer: Any layer.

    Returns:
        A `keras.DTypePolicy`.

    Example:

    >>> layer = keras.layers.Dense(1)
    >>> keras_advdef.core.keras_policies.own_policy(layer).name
    'float32'
    """
    return vars(layer)["_dtype_policy"]


@contextlib.contextmanager
def policies_of_thread(
    policies: Sequence[tuple[keras.layers.Layer, str]],
) -> Iterator[None]:
    """Gives layers other dtype policies, which only this thread sees.

    Args:
        policies: Layers, each with the name of its policy while the body runs.

    Example:

    >>> layer = keras.layers.Dense(1)
    >>> from keras_advdef.core.keras_policies import policies_of_thread
    >>> with policies_of_thread([(layer, "mixed_bfloat16")]):
    ...     layer.compute_dtype
    'bfloat16'
    >>> layer.compute_dtype
    'float32'
    """
    outer = _active.__dict__.get("policies", {})
    made = {name: keras.dtype_policies.get(name) for _, name in policies}
    inner = {id(layer): made[name] for layer, name in policies}
    _active.policies = {**outer, **inner}
    try:
        yield
    finally:
        _active.policies = outer

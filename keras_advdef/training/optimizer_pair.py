"""What a model of two nets is compiled with: an optimizer for each, and no loss."""

from collections.abc import Mapping
from typing import Any

import keras

from keras_advdef.core.errors import invalid

_NOT_COMPILED = ("loss", "loss_weights", "metrics", "weighted_metrics")


def check_no_loss(owner: str, arguments: Mapping[str, Any]) -> None:
    """Raises if `compile` was given a loss or metrics.

    Args:
        owner: Name of the class that is compiled.
        arguments: Those of `compile` by name.

    Raises:
        ValueError: If one of them is a loss or metrics.
    """
    for name in _NOT_COMPILED:
        if arguments.get(name) is not None:
            rule = "left out, since the critic is the loss"
            raise invalid(owner, name, rule, arguments[name])


def optimizer_pair(
    owner: str, optimizer: Any, critic_optimizer: Any
) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers of a generator and of its critic.

    Args:
        owner: Name of the class that is compiled.
        optimizer: What `keras.optimizers.get` takes; `None` for the paper's Adam.
        critic_optimizer: The same; `None` for a copy of `optimizer` as it was
            configured.

    Raises:
        ValueError: If both are the same object.
    """
    if optimizer is None:
        optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.9)
    optimizer = keras.optimizers.get(optimizer)
    if critic_optimizer is None:
        critic_optimizer = keras.optimizers.serialize(optimizer)
    critic_optimizer = keras.optimizers.get(critic_optimizer)
    if critic_optimizer is optimizer:
        rule = "another object than `optimizer`"
        raise invalid(owner, "critic_optimizer", rule, critic_optimizer)
    return [optimizer, critic_optimizer]

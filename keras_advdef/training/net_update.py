"""One step of an optimizer on one net of several."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.keras_training import scale_loss_for_distribution
from keras_advdef.training.finite_step import FiniteStep


def scaling_where_needed(
    optimizer: keras.optimizers.Optimizer, nets: Sequence[keras.Model]
) -> keras.optimizers.Optimizer:
    """Returns an optimizer that scales the loss if a net computes in float16.

    Args:
        optimizer: The optimizer.
        nets: All nets that the loss passes.
    """
    layers = [layer for net in nets for layer in flat_layers(net)]
    is_half = any(layer.compute_dtype == "float16" for layer in layers)
    kind = keras.optimizers.LossScaleOptimizer
    return kind(optimizer) if is_half and not isinstance(optimizer, kind) else optimizer


def update_net(
    optimizer: Any,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    *,
    net: keras.Model,
    step: FiniteStep,
) -> None:
    """Moves the trainable weights of one net, and no other, along a gradient.

    Losses of the net's own layers are added; of several replicas each gives its share.

    Args:
        optimizer: A built optimizer of the net's trainable weights.
        tape: What watched the loss, still open.
        loss: Mean over the images of this replica.
        net: The net.
        step: The running step of training, which looks at loss and gradients.
    """
    with tape:
        own = [tf.cast(each, loss.dtype) for each in net.losses]
        total = scale_loss_for_distribution(tf.add_n([loss, *own]))
        scaled = optimizer.scale_loss(total)
    variables = net.trainable_variables
    gradients = tape.gradient(scaled, variables)
    step.look(total, gradients, optimizer)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))

"""check_weight_decay: rejects weight decay that defeats `Parseval`."""

import keras

from keras_advdef.constraints.parseval import Parseval
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_training import decays_weight


def check_weight_decay(
    model: keras.Model, optimizer: keras.optimizers.Optimizer
) -> None:
    """Raises if weight decay would shrink a kernel faster than `Parseval` restores it.

    Args:
        model: A built model.
        optimizer: Its `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If `learning_rate * weight_decay` is at least `beta * steps` of a
            constraint: the kernel's singular values would go to zero.

    Example:

    >>> parseval = keras_advdef.constraints.Parseval(beta=1e-4)
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(2, kernel_constraint=parseval)])
    >>> optimizer = keras.optimizers.SGD(0.1, weight_decay=1e-4)
    >>> keras_advdef.constraints.check_weight_decay(model, optimizer)
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    decay = getattr(optimizer, "weight_decay", None)
    if not decay:
        return
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    for variable in model.trainable_variables:
        constraint = variable.constraint
        if not isinstance(constraint, Parseval) or not decays_weight(
            optimizer, variable
        ):
            continue
        strength = constraint.beta * constraint.steps
        if rate * decay >= strength:
            rule = f"below {strength / rate:g}, which is beta / learning rate, for "
            rule += f"`{variable.path}`"
            advice = "Exclude constrained kernels from weight decay: "
            advice += "`optimizer.exclude_from_weight_decay(var_names=['kernel'])`."
            raise invalid("Parseval", "weight_decay", rule, decay, advice=advice)

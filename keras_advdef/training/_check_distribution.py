"""The check of options that fail under a distribution strategy."""

import keras

from keras_advdef.core.errors import invalid


def check_distribution(model: keras.Model) -> None:
    """Raises for options that fail inside TensorFlow, with pages of traceback.

    Args:
        model: A compiled model.

    Raises:
        ValueError: If the model has several replicas and is jitted or makes several
            steps per execution.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    owner = type(model).__name__
    if model.jit_compile is True:
        rule = "False or 'auto' under a distribution strategy"
        raise invalid(owner, "jit_compile", rule, True)
    if model.steps_per_execution != 1:
        rule = "1 under a distribution strategy"
        raise invalid(owner, "steps_per_execution", rule, model.steps_per_execution)

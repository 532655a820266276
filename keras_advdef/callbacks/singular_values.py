"""SingularValues: logs the extreme singular values of a model's kernels."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.constraints import check_weight_decay
from keras_advdef.constraints.parseval import kernel_matrices
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import flat_layers


class SingularValues(keras.callbacks.Callback):
    """Logs the smallest and largest singular value of each kernel after each epoch.

    Kernels are the matrices that `constraints.Parseval` works on. The logs carry
    `<layer>_smallest_singular_value` and `<layer>_largest_singular_value`, for the
    history and the callbacks after it: `keras.callbacks.TensorBoard` draws them.

    Raises:
        ValueError: If the model has no kernel, or `fit` starts with a weight decay that
            defeats a `Parseval` constraint.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(2, kernel_initializer="orthogonal", name="head")])
    >>> model.compile("sgd", "mse")
    >>> values = keras_advdef.callbacks.SingularValues()
    >>> history = model.fit(
    ...     np.zeros((2, 4)), np.zeros((2, 2)), callbacks=[values], verbose=0)
    >>> round(history.history["head_largest_singular_value"][0], 3)
    1.0
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises if there is nothing to log, or weight decay defeats a constraint."""
        if not _kernels(self.model):
            rule = "a model with a dense or convolutional layer"
            raise invalid("SingularValues", "model", rule, self.model)
        check_weight_decay(self.model, self.model.optimizer)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the values to the logs."""
        if logs is not None:
            logs.update(extreme_singular_values(self.model))


def extreme_singular_values(model: keras.Model) -> dict[str, float]:
    """Returns the smallest and largest singular value of each kernel by log name.

    Args:
        model: A built model.

    Returns:
        Numbers by `<layer>_smallest_singular_value` and the like.
    """
    found = {}
    for name, matrices in _kernels(model).items():
        values = np.linalg.svd(matrices, compute_uv=False)
        found[f"{name}_smallest_singular_value"] = float(values.min())
        found[f"{name}_largest_singular_value"] = float(values.max())
    return found


def _kernels(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the matrices of all kernels by the name of their layer, made unique."""
    found: dict[str, np.ndarray] = {}
    for layer in flat_layers(model):
        kernel = getattr(layer, "kernel", None)
        if kernel is None or len(kernel.shape) < 2:
            continue
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        name, count = layer.name, 1
        while name in found:
            count += 1
            name = f"{layer.name}_{count}"
        values = tf.cast(tf.convert_to_tensor(kernel), "float32")
        found[name] = kernel_matrices(values, depthwise=is_depthwise).numpy()
    return found

"""Everything the package needs from Keras's private API to train models.

Keras 3.15 has no public equivalent. Each name has a test named after it, which shows
when a Keras release changes it. See `keras_private` for the rest.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask
from keras.src.callbacks.callback_list import CallbackList
from keras.src.losses.loss import (
    reduce_weighted_values,
    scale_loss_for_distribution,
    unscale_loss_for_distribution,
)
from keras.src.trainers.compile_utils import MetricsList

from keras_advdef.core.traced_function import outside_of_traces

__all__ = [
    "MonitoredMetrics",
    "averaged_weights",
    "build_metrics",
    "compiled_loss",
    "compiled_metric_names",
    "compiled_metrics",
    "decays_weight",
    "get_keras_mask",
    "loss_tracker",
    "prepare_for_workers",
    "reduce_weighted_values",
    "resolved_loss",
    "running_callbacks",
    "scale_loss_for_distribution",
    "unscale_loss_for_distribution",
    "worker_logs",
]


class MonitoredMetrics(MetricsList):
    """Metrics of a custom training step whose direction callbacks can infer.

    With `mode="auto"`, Keras infers the direction of a monitored metric only from
    metrics in such lists. Keras's own class lacks `result`.

    Example:

    >>> metric = keras.metrics.SparseCategoricalAccuracy(name="adversarial_accuracy")
    >>> metrics = keras_advdef.core.keras_training.MonitoredMetrics([metric])
    >>> list(metrics.result())
    ['adversarial_accuracy']
    """

    def result(self) -> dict[str, Any]:
        """Returns the value of each metric by its name."""
        return self.get_result()


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric that a compiled model logs as `loss`.

    Args:
        model: A compiled model.

    Returns:
        The metric that a custom `train_step` must update.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> keras_advdef.core.keras_training.loss_tracker(model).name
    'loss'
    """
    return model._loss_tracker


def compiled_loss(model: keras.Model) -> Any:
    """Returns the `loss` argument that a model was compiled with.

    Args:
        model: A compiled model.

    Returns:
        A string, function, `keras.losses.Loss`, list, dictionary or `None`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> keras_advdef.core.keras_training.compiled_loss(model)
    'mse'
    """
    return model._compile_loss and model._compile_loss._user_loss


def compiled_metrics(model: keras.Model) -> Any:
    """Returns the `metrics` argument that a model was compiled with.

    Args:
        model: A compiled model.

    Returns:
        A list, dictionary or `None`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse", metrics=["mae"])
    >>> keras_advdef.core.keras_training.compiled_metrics(model)
    ['mae']
    """
    return model._compile_metrics and model._compile_metrics._user_metrics


def compiled_metric_names(model: keras.Model) -> list[str]:
    """Returns the names in the logs of the metrics given to `compile`.

    Args:
        model: A compiled model that was called on a batch.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse", metrics=["mae"])
    >>> logs = model.evaluate(np.zeros((1, 2)), np.zeros(1), verbose=0)
    >>> keras_advdef.core.keras_training.compiled_metric_names(model)
    ['mae']
    """
    metrics = model._compile_metrics
    return list(metrics.result()) if metrics is not None else []


def build_metrics(model: keras.Model, labels: Any, outputs: Any) -> None:
    """Creates the variables of the metrics given to `compile`.

    Keras creates them while it traces the first step, and a function that creates
    variables is traced twice.

    Args:
        model: A compiled model.
        labels: Labels of a batch, eager or symbolic.
        outputs: Outputs of the model for it.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse", metrics=["mae"])
    >>> batch = np.zeros((3, 1))
    >>> keras_advdef.core.keras_training.build_metrics(model, batch, batch)
    >>> keras_advdef.core.keras_training.compiled_metric_names(model)
    ['mae']
    """
    metrics = model._compile_metrics
    # Under a strategy Keras does it before the first step.
    if metrics is None or metrics.built or tf.distribute.has_strategy():
        return
    with outside_of_traces():
        metrics.build(labels, outputs)


def resolved_loss(
    model: keras.Model, labels: tf.Tensor, outputs: tf.Tensor
) -> tuple[keras.losses.Loss, float | None]:
    """Returns the loss object that Keras makes from the loss given to `compile`.

    Keras resolves names such as "crossentropy" by the shapes of labels and outputs, and
    wraps functions into losses that cast and match ranks.

    Args:
        model: A model compiled with one loss.
        labels: Labels of a batch.
        outputs: Outputs of the model for it.

    Returns:
        The loss, and its weight from `loss_weights` or `None`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse", loss_weights=0.5)
    >>> batch = np.zeros((3, 1))
    >>> resolved = keras_advdef.core.keras_training.resolved_loss
    >>> loss, weight = resolved(model, batch, batch)
    >>> float(loss(batch, batch + 2.0)), weight
    (4.0, 0.5)
    """
    compiled = model._compile_loss
    if not compiled.built:
        compiled.build(labels, outputs)
    (found,) = compiled._flat_losses
    return found.loss, found.loss_weights


def decays_weight(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> bool:
    """Returns whether an optimizer applies its weight decay to a variable.

    Args:
        optimizer: The optimizer.
        variable: A trainable variable.

    Returns:
        False if `exclude_from_weight_decay` names it.

    Example:

    >>> layer = keras.layers.Dense(1)
    >>> layer.build((None, 2))
    >>> optimizer = keras.optimizers.SGD(weight_decay=0.1)
    >>> keras_advdef.core.keras_training.decays_weight(optimizer, layer.kernel)
    True
    """
    return optimizer._use_weight_decay(variable)


def averaged_weights(
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns the weights that an optimizer trains, each with its moving average.

    Args:
        optimizer: A built optimizer.

    Returns:
        Pairs of variables; none if the optimizer does not average.

    Example:

    >>> layer = keras.layers.Dense(1)
    >>> layer.build((None, 2))
    >>> optimizer = keras.optimizers.SGD(use_ema=True)
    >>> optimizer.build(layer.trainable_variables)
    >>> len(keras_advdef.core.keras_training.averaged_weights(optimizer))
    2
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if not optimizer.use_ema:
        return []
    trained, averages = (
        optimizer._trainable_variables,
        optimizer._model_variables_moving_average,
    )
    return list(zip(trained, averages, strict=True))


def running_callbacks(
    callback: keras.callbacks.Callback,
) -> Sequence[keras.callbacks.Callback]:
    """Returns all callbacks of the running `fit`, in their order.

    Keras gives a callback its model, but not the other callbacks. Their list is looked
    up on the call stack.

    Args:
        callback: A callback, inside one of its own `on_...` methods.

    Returns:
        The callbacks of the list that holds `callback`; only itself outside `fit`.

    Example:

    >>> callback = keras.callbacks.Callback()
    >>> len(keras_advdef.core.keras_training.running_callbacks(callback))
    1
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, CallbackList) and callback in owner.callbacks:
            return owner.callbacks
        frame = frame.f_back
    return [callback]


def _has_workers(model: keras.Model) -> bool:
    strategy = model.distribute_strategy
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def prepare_for_workers(model: keras.Model) -> None:
    """Makes `fit` work under `MultiWorkerMirroredStrategy`.

    Keras 3.15 fails there when it builds the model symbolically, so this skips that
    step. The model must already be built.

    Args:
        model: A built model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_training.prepare_for_workers(model)
    """
    if _has_workers(model):
        model._maybe_symbolic_build = lambda *args, **kwargs: None


def worker_logs(model: keras.Model, logs: dict[str, Any]) -> dict[str, Any]:
    """Returns the logs of a step in a shape that Keras can reduce over workers.

    Args:
        model: The model of the step.
        logs: Scalars by name.

    Returns:
        Vectors of length one under `MultiWorkerMirroredStrategy`, else `logs`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_training.worker_logs(model, {"loss": 1.0})
    {'loss': 1.0}
    """
    if not _has_workers(model):
        return logs
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}

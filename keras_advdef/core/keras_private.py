"""Every name the package takes from Keras's private parts, and nothing else.

Keras gives no public way to these in 3.15. Each has a test named after it, so that a
new Keras release that moves one is noticed by name.
"""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.callbacks.callback_list import CallbackList
from keras.src.losses.loss import (
    reduce_weighted_values,
    scale_loss_for_distribution,
    unscale_loss_for_distribution,
)
from keras.src.models.functional import Functional
from keras.src.ops.nn import Softmax as SoftmaxOperation
from keras.src.random.seed_generator import make_default_seed
from keras.src.trainers.compile_utils import MetricsList

__all__ = [
    "MonitoredMetrics",
    "SoftmaxOperation",
    "callbacks_beside",
    "compiled_loss",
    "flat_layers",
    "has_graph",
    "inbound_tensors",
    "kept_losses",
    "loss_tracker",
    "make_default_seed",
    "prepare_for_workers",
    "producer",
    "reduce_weighted_values",
    "scale_loss_for_distribution",
    "seed_state_variables",
    "unscale_loss_for_distribution",
    "worker_logs",
]


class MonitoredMetrics(MetricsList):
    """Metrics of a custom training step whose direction callbacks can find.

    With `mode="auto"`, Keras looks for the direction of a monitored metric in such
    lists only. Its own class of this kind has no `result`.

    Example:

    >>> metric = keras.metrics.SparseCategoricalAccuracy(name="adversarial_accuracy")
    >>> metrics = keras_advdef.core.keras_private.MonitoredMetrics([metric])
    >>> list(metrics.result())
    ['adversarial_accuracy']
    """

    def result(self) -> dict[str, Any]:
        """Returns the value of each metric by its name."""
        return self.get_result()


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric behind `loss` in the logs of a compiled model.

    Args:
        model: A compiled model.

    Returns:
        The metric that a custom `train_step` must update.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> keras_advdef.core.keras_private.loss_tracker(model).name
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
    >>> keras_advdef.core.keras_private.compiled_loss(model)
    'mse'
    """
    return model._compile_loss and model._compile_loss._user_loss


def producer(tensor: Any) -> Any:
    """Returns the layer or operation that made a symbolic tensor.

    Args:
        tensor: A `keras.KerasTensor` of a functional model.

    Returns:
        A `keras.Operation`; layers are operations.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> type(keras_advdef.core.keras_private.producer(model.outputs[0])).__name__
    'Dense'
    """
    return tensor._keras_history.operation


def inbound_tensors(tensor: Any) -> list[Any]:
    """Returns the symbolic tensors from which a symbolic tensor was made.

    Args:
        tensor: A `keras.KerasTensor` of a functional model.

    Returns:
        A list of `keras.KerasTensor`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> inputs = keras_advdef.core.keras_private.inbound_tensors(model.outputs[0])
    >>> inputs[0].shape
    (None, 2)
    """
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors


def has_graph(layer: Any) -> bool:
    """Returns whether a model is a graph of layers that can be rebuilt in parts.

    Args:
        layer: Any layer or model.

    Returns:
        True for a built `keras.Sequential` or functional model whose `call` is
        Keras's own, False for anything else.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_private.has_graph(model)
    True
    """
    call = getattr(type(layer), "call", None)
    return call in (Functional.call, keras.Sequential.call) and layer.built


def flat_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns a model and all layers in it, those of nested models included.

    Args:
        model: Any model.

    Returns:
        A list of layers.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> [type(layer).__name__
    ...  for layer in keras_advdef.core.keras_private.flat_layers(model)]
    ['Sequential', 'InputLayer', 'Dense']
    """
    return list(model._flatten_layers())


def seed_state_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns the state of every `keras.random.SeedGenerator` inside a model.

    Args:
        model: Any built model.

    Returns:
        A list of uint32 variables of shape `(2,)`.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])
    >>> len(keras_advdef.core.keras_private.seed_state_variables(model))
    1
    """
    layers = flat_layers(model)
    return [seeds.state for layer in layers for seeds in layer._seed_generators]


@contextlib.contextmanager
def kept_losses(model: keras.Model) -> Iterator[None]:
    """Puts back, at its end, what the last call of a model added with `add_loss`.

    Keras forgets these losses whenever a model or layer is called anew.

    Args:
        model: Any model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> with keras_advdef.core.keras_private.kept_losses(model):
    ...     outputs = model(np.zeros((3, 2)))
    """
    losses = [(layer, list(layer._losses)) for layer in flat_layers(model)]
    try:
        yield
    finally:
        for layer, kept in losses:
            layer._losses[:] = kept


def callbacks_beside(callback: keras.callbacks.Callback) -> Sequence[Any]:
    """Returns the callbacks of the running `fit` in their order.

    Keras tells a callback its model but not its neighbours; the list is found on the
    stack of the call that reached it.

    Args:
        callback: A callback in one of its own `on_...` methods.

    Returns:
        All callbacks of the list that holds `callback`, or only itself outside `fit`.

    Example:

    >>> callback = keras.callbacks.Callback()
    >>> len(keras_advdef.core.keras_private.callbacks_beside(callback))
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
    """Lets `fit` start under `MultiWorkerMirroredStrategy`.

    Keras 3.15 builds models there by averaging batches that cannot be averaged; the
    model must be built before.

    Args:
        model: A built model.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_private.prepare_for_workers(model)
    """
    if _has_workers(model):
        model._maybe_symbolic_build = lambda *args, **kwargs: None


def worker_logs(model: keras.Model, logs: dict[str, Any]) -> dict[str, Any]:
    """Returns a step's logs in the shape that Keras can reduce over workers.

    Args:
        model: The model that made the step.
        logs: Scalars by name.

    Returns:
        Vectors of length one under `MultiWorkerMirroredStrategy`, else the logs.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> keras_advdef.core.keras_private.worker_logs(model, {"loss": 1.0})
    {'loss': 1.0}
    """
    if not _has_workers(model):
        return logs
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}

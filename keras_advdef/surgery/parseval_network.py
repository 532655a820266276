"""parseval_network: makes a Parseval network of an existing model."""

import keras
import tensorflow as tf

from keras_advdef.constraints import Parseval
from keras_advdef.constraints.parseval import kernel_matrices
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import AdditionOperation
from keras_advdef.layers import ConvexCombination, ParsevalConv2D
from keras_advdef.layers.parseval_conv2d import window_factor
from keras_advdef.surgery.rewrite import rewrite

_WINDOWED = (keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)
_KINDS = (keras.layers.Dense, keras.layers.Conv2D, *_WINDOWED)
_OWNER = "parseval_network"


def parseval_network(
    model: keras.Model, *, beta: float = 0.01, steps: int = 1
) -> keras.Model:
    """Returns an untrained Parseval network with the architecture of a model.

    Every `Dense`, `Conv2D`, `DepthwiseConv2D` and `Conv2DTranspose` restarts from an
    orthogonal kernel, which `constraints.Parseval` then maintains. Convolutions are
    divided by the square root of their window size, and every `Add` becomes a
    `ConvexCombination`. Subclasses of these layers and other layers are kept.

    If the remaining layers increase no distance either (ReLU and max or average pooling
    do not, `BatchNormalization` may), the logits change by no more than the image does.

    Train the network without weight decay; see `constraints.Parseval`. The bound helps
    against small perturbations only, so train with `AdversarialTrainingModel`.

    Args:
        model: A built `keras.Sequential` or functional model; it is not changed.
        beta: See `constraints.Parseval`.
        steps: See `constraints.Parseval`.

    Returns:
        A new model with its own weights.

    Raises:
        ValueError: If an argument is out of range, or the model has no such layer,
            cannot be rebuilt, adds with `+`, or regularizes a kernel.

    Reference:
        Cisse, Bojanowski, Grave, Dauphin, Usunier: Parseval Networks: Improving
        Robustness to Adversarial Examples, ICML 2017.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"),
    ...     keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> network = keras_advdef.surgery.parseval_network(model)
    >>> type(network.layers[0]).__name__
    'ParsevalConv2D'
    """
    found: list[keras.Operation] = []

    def rule(step: keras.Operation) -> list[keras.Operation] | None:
        if isinstance(step, AdditionOperation):
            _refuse_addition(model, step)
        if type(step) is keras.layers.Add:
            return [ConvexCombination(name=step.name, dtype=step.dtype_policy)]
        if type(step) not in _KINDS:
            return None
        found.append(step)
        return _constrained(step, Parseval(beta=beta, steps=steps))

    Parseval(beta=beta, steps=steps)
    network = rewrite(model, rule, copy=True, owner=_OWNER)
    if not found:
        raise invalid(_OWNER, "model", "a model with a dense or conv layer", model)
    return network


def _refuse_addition(model: keras.Model, step: keras.Operation) -> None:
    shapes = {tuple(each.shape) for each in step.input} if _is_pair(step) else set()
    if len(shapes) == 1:
        advice = f"Replace `{step.name}` by `keras.layers.Add()`."
        raise invalid(_OWNER, "model", "one that adds by layers", model, advice=advice)


def _is_pair(step: keras.Operation) -> bool:
    return isinstance(step.input, (list, tuple)) and len(step.input) == 2


def _constrained(
    layer: keras.layers.Layer, constraint: Parseval
) -> list[keras.layers.Layer]:
    """Returns the layer with an orthogonal kernel, a constraint and its factor."""
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    prefix = "depthwise" if is_depthwise else "kernel"
    config = layer.get_config()
    if config[f"{prefix}_regularizer"] is not None:
        rule = f"one whose layer `{layer.name}` has no `{prefix}_regularizer`"
        advice = "It would pull the kernel away from an orthonormal one."
        raise invalid(_OWNER, "model", rule, layer, advice=advice)
    if is_depthwise:
        constraint = Parseval(
            beta=constraint.beta, steps=constraint.steps, depthwise=True
        )
    config[f"{prefix}_initializer"] = "orthogonal"
    config[f"{prefix}_constraint"] = constraint
    kind = ParsevalConv2D if type(layer) is keras.layers.Conv2D else type(layer)
    new = kind.from_config(config)
    new.build_from_config(layer.get_build_config())
    if is_depthwise:
        _orthogonalise_channels(new.kernel)
    if not isinstance(layer, _WINDOWED):
        return [new]
    factor = window_factor(layer.kernel_size)
    name = f"{layer.name}_window"
    return [keras.layers.Rescaling(factor, name=name, dtype=layer.dtype_policy), new]


def _orthogonalise_channels(kernel: keras.Variable) -> None:
    """Gives each channel of a depthwise kernel its own orthonormal matrix."""
    matrices = kernel_matrices(tf.convert_to_tensor(kernel), depthwise=True)
    _, left, right = tf.linalg.svd(tf.random.normal(matrices.shape))
    nearest = tf.matmul(left, right, transpose_b=True)
    kernel.assign(tf.reshape(tf.transpose(nearest, (1, 0, 2)), kernel.shape))

"""The logits behind what a classifier returns: a softmax or sigmoid at its end undone.

TensorFlow itself tells what a tensor was made of: a tensor of a graph by its operation,
an eager one of Keras by the logits that `keras.ops.softmax` and `keras.ops.sigmoid`
leave on it for the cross-entropies. So no model has to be rebuilt, and it does not
matter how deep in it the head lies, or whether it is a functional model, a subclassed
one, a quantized one or a plain function.
"""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.errors import invalid

# Operations that hand the same numbers on.
_PASSES = ("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims")
_HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
# Their results are no probabilities: one affine map of features, or logarithms.
_UNBOUNDED = ("BiasAdd", "MatMul", "BatchMatMulV2", "LogSoftmax", "Log")
_CLASSES = "a classifier with one output of shape (batch, classes)"


def single_output(owner: str, outputs: Any) -> tf.Tensor:
    """Returns the one tensor of a classifier, which may stand in a list or dictionary.

    Args:
        owner: Name of the class or function that calls the classifier.
        outputs: What the classifier returned.

    Returns:
        Tensor of shape `(batch, units)`.

    Raises:
        ValueError: If it returned several tensors, or one of another rank.

    Example:

    >>> outputs = {"probabilities": tf.constant([[0.5, 0.5]])}
    >>> keras_advdef.core.output_head.single_output("PGD", outputs).shape
    TensorShape([1, 2])
    """
    flat = keras.tree.flatten(outputs)
    check_outputs(owner, flat)
    if not tf.is_tensor(flat[0]) or flat[0].shape.rank != 2:
        advice = "Give a model whose last layer returns one logit per class."
        raise invalid(owner, "model", _CLASSES, flat[0], advice=advice)
    return flat[0]


def check_outputs(owner: str, outputs: list[Any]) -> None:
    """Raises if a model has several outputs, or none.

    Args:
        owner: Name of the class or function that takes the model.
        outputs: Tensors, symbolic or not.

    Raises:
        ValueError: Unless it is one.

    Example:

    >>> keras_advdef.core.output_head.check_outputs("PGD", [tf.zeros((1, 2))])
    """
    if len(outputs) != 1:
        rule = f"{_CLASSES}, not {len(outputs)}"
        advice = "Give `keras.Model(model.inputs, output)` with the output to attack."
        raise invalid(owner, "model", rule, outputs, advice=advice)


def undone(owner: str, outputs: tf.Tensor) -> tf.Tensor | None:
    """Returns the logits of a softmax or sigmoid, or `None` where none can be seen.

    Args:
        owner: Name of the class or function that calls the classifier.
        outputs: What the classifier returned, `(batch, units)`.

    Returns:
        Float32 tensor of shape `(batch, classes)`: the softmax's argument, and for
        the sigmoid of one logit z the two logits 0 and z.

    Raises:
        ValueError: If the head is a softmax of one unit, whose output is 1 whatever
            the image, or a sigmoid of several, whose classes do not exclude each other.

    Example:

    >>> outputs = keras.ops.sigmoid(tf.constant([[3.0]]))
    >>> keras_advdef.core.output_head.undone("PGD", outputs).numpy().tolist()
    [[0.0, 3.0]]
    """
    found = _left_by_keras(outputs) if tf.executing_eagerly() else _in_graph(outputs)
    if found is None:
        return None
    head, logits = found
    units = outputs.shape[1]
    if head == "softmax" and units == 1:
        rule = "a classifier of at least two classes"
        advice = 'A softmax of one unit is always 1: take "sigmoid", or two units.'
        raise invalid(owner, "model", rule, outputs, advice=advice)
    if head == "sigmoid" and units != 1:
        rule = "a classifier with one class per image"
        advice = (
            f"It ends in a sigmoid of {units} units, whose classes do not exclude each "
            "other: end it in a softmax, or in one sigmoid unit for two classes."
        )
        raise invalid(owner, "model", rule, outputs, advice=advice)
    return two_classes(tf.cast(logits, tf.float32))


def two_classes(logits: tf.Tensor) -> tf.Tensor:
    """Returns the logits 0 and z for one logit z, and others as they are.

    Args:
        logits: Tensor of shape `(batch, units)`.

    Example:

    >>> two_classes = keras_advdef.core.output_head.two_classes
    >>> two_classes(tf.constant([[3.0]])).numpy().tolist()
    [[0.0, 3.0]]
    """
    if logits.shape[1] != 1:
        return logits
    return tf.concat([tf.zeros_like(logits), logits], axis=1)


def logits_spec(outputs: Any) -> keras.KerasTensor:
    """Returns the symbolic logits for what a classifier returns symbolically.

    Args:
        outputs: A `keras.KerasTensor`, also alone in a list or dictionary.

    Example:

    >>> outputs = [keras.KerasTensor((None, 1))]
    >>> keras_advdef.core.output_head.logits_spec(outputs).shape
    (None, 2)
    """
    (output,) = keras.tree.flatten(outputs)
    batch, units = output.shape
    return keras.KerasTensor((batch, 2 if units == 1 else units), "float32")


def is_affine(outputs: tf.Tensor) -> bool:
    """Returns whether a tensor of a graph is seen not to hold probabilities.

    Args:
        outputs: What a classifier returned.

    Example:

    >>> keras_advdef.core.output_head.is_affine(tf.ones((1, 2)))
    False
    """
    if tf.executing_eagerly():
        return False
    made = _maker(outputs)
    if made.type in ("Add", "AddV2"):
        made = _maker(made.inputs[0])
    return made.type in _UNBOUNDED


def _maker(tensor: tf.Tensor) -> Any:
    """Returns the operation that computed what a tensor of a graph holds."""
    # A constant of the world outside has no operation before it comes in.
    tensor = tf.identity(tensor)
    while tensor.op.type in _PASSES:
        tensor = tensor.op.inputs[0]
    return tensor.op


def _in_graph(outputs: tf.Tensor) -> tuple[str, tf.Tensor] | None:
    operation = _maker(outputs)
    if operation.type not in _HEADS:
        return None
    head, logits = _HEADS[operation.type], operation.inputs[0]
    is_known = logits.shape.rank is not None
    if head == "softmax" and not (is_known and logits.shape[-1] == outputs.shape[1]):
        # A reshape mixed the classes with other axes.
        return None
    return head, tf.ensure_shape(tf.reshape(logits, tf.shape(outputs)), outputs.shape)


def _left_by_keras(outputs: tf.Tensor) -> tuple[str, tf.Tensor] | None:
    logits = getattr(outputs, "_keras_logits", None)
    if logits is None or logits.shape != outputs.shape:
        return None
    # Keras does not say of which of the two they are.
    heads = [("softmax", tf.nn.softmax), ("sigmoid", tf.nn.sigmoid)]
    if outputs.shape[1] == 1:
        heads.reverse()
    gaps = {
        name: float(tf.reduce_max(tf.abs(head(logits) - outputs)))
        for name, head in heads
    }
    return min(gaps, key=gaps.__getitem__), logits

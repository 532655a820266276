"""The logits behind what a classifier returns: a softmax or sigmoid at its end undone.

TensorFlow itself tells what a tensor was made of: a tensor of a graph by its operation,
an eager one of Keras by the logits that `keras.ops.softmax` and `keras.ops.sigmoid`
leave on it for the cross-entropies. So no model has to be rebuilt, and it does not
matter how deep in it the head lies, or whether it is a functional model, a subclassed
one, a quantized one or a plain function.
"""

import contextlib
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_training import compiled_loss
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope

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
    >>> keras_advdef.core.softmax_head.single_output("PGD", outputs).shape
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

    >>> keras_advdef.core.softmax_head.check_outputs("PGD", [tf.zeros((1, 2))])
    """
    if len(outputs) != 1:
        rule = f"{_CLASSES}, not {len(outputs)}"
        advice = "Give `keras.Model(model.inputs, output)` with the output to attack."
        raise invalid(owner, "model", rule, outputs, advice=advice)


def undo_head(owner: str, outputs: tf.Tensor) -> tf.Tensor | None:
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
    >>> keras_advdef.core.softmax_head.undo_head("PGD", outputs).numpy().tolist()
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
    return two_class_logits(tf.cast(logits, tf.float32))


def two_class_logits(logits: tf.Tensor) -> tf.Tensor:
    """Returns the logits 0 and z for one logit z, and others as they are.

    Args:
        logits: Tensor of shape `(batch, units)`.

    Example:

    >>> two_class_logits = keras_advdef.core.softmax_head.two_class_logits
    >>> two_class_logits(tf.constant([[3.0]])).numpy().tolist()
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
    >>> keras_advdef.core.softmax_head.logits_spec(outputs).shape
    (None, 2)
    """
    (output,) = keras.tree.flatten(outputs)
    batch, units = output.shape
    return keras.KerasTensor((batch, 2 if units == 1 else units), "float32")


def is_unbounded(outputs: tf.Tensor) -> bool:
    """Returns whether a tensor of a graph is seen not to hold probabilities.

    Args:
        outputs: What a classifier returned.

    Example:

    >>> keras_advdef.core.softmax_head.is_unbounded(tf.ones((1, 2)))
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


# Below it a probability is taken as this small, so that its logarithm is finite.
_SMALLEST = 1e-30
_TOLERANCE = 1e-3
# What an axis of unknown size is taken to be, if the model works at any.
_UNKNOWN_SIZE = 32
_UNKNOWN_CHANNELS = 3
_PROBES = 16

# What a model returns: nothing else than logits, the result of a head that a graph of
# it shows, or probabilities made in a way that cannot be seen.
_LOGITS = "logits"
_HEAD = "head"
_PROBABILITIES = "probabilities"

# Names for which Keras chooses a loss by the shapes of labels and outputs.
_NAMED_BY_SHAPE = ("crossentropy", "ce")

# What is known of a model, by its identity and for as long as it lives.
_known: dict[int, str] = {}


def are_probabilities(outputs: np.ndarray) -> bool:
    """Returns whether a classifier's outputs can only be probabilities.

    Args:
        outputs: What it returned for some images, `(batch, units)`.

    Example:

    >>> check = keras_advdef.core.softmax_head.are_probabilities
    >>> check(np.array([[0.25, 0.75]])), check(np.array([[0.25, 0.25]]))
    (True, False)
    """
    outputs = np.asarray(outputs, np.float32)
    is_between = outputs.min() >= 0.0 and outputs.max() <= 1.0 + _TOLERANCE
    if outputs.shape[1] == 1:
        # No sigmoid gives exactly 0 for all; a logit that nothing moves yet does.
        return bool(is_between and outputs.any())
    if not is_between:
        # The sum of logits may overflow.
        return False
    return bool(np.abs(outputs.sum(axis=-1) - 1.0).max() < _TOLERANCE)


def log_probabilities(probabilities: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of probabilities, which serves as logits.

    Args:
        probabilities: Tensor `(batch, units)`; one unit holds that of class 1.

    Returns:
        Float32 tensor `(batch, classes)`.

    Example:

    >>> log_probabilities = keras_advdef.core.softmax_head.log_probabilities
    >>> tf.exp(log_probabilities(tf.constant([[0.25]]))).numpy().tolist()
    [[0.75, 0.25]]
    """
    probabilities = tf.cast(probabilities, tf.float32)
    if probabilities.shape[1] == 1:
        probabilities = tf.concat([1.0 - probabilities, probabilities], axis=1)
    return tf.math.log(tf.maximum(probabilities, _SMALLEST))


def expects_probabilities(loss: Any) -> bool | None:
    """Returns whether a loss takes probabilities; `None` if it does not say.

    Args:
        loss: What a model was compiled with: a name, function or `keras.losses.Loss`.

    Example:

    >>> takes = keras_advdef.core.softmax_head.expects_probabilities
    >>> takes("crossentropy"), takes("mse")
    (True, None)
    """
    if isinstance(loss, str) and loss not in _NAMED_BY_SHAPE:
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        from_logits = loss.get_config().get("from_logits")
        return None if from_logits is None else not from_logits
    named = loss in _NAMED_BY_SHAPE or "crossentropy" in getattr(loss, "__name__", "")
    return named or None


def logits_of(
    owner: str, model: Any, images: tf.Tensor, outputs: Any, run: Callable[..., Any]
) -> tf.Tensor:
    """Returns the logits for what a classifier returned, in whatever form.

    A warning tells the user once of a classifier whose head cannot be undone, so that
    the logarithm of its probabilities stands in.

    Args:
        owner: Name of the class or function that calls the classifier.
        model: The classifier.
        images: What it was called on.
        outputs: What it returned.
        run: Calls the classifier without side effects. It is asked about a few other
            images, once, if the outputs alone do not show what they are.

    Returns:
        Float32 tensor of shape `(batch, classes)`, with at least two classes.

    Raises:
        ValueError: If the outputs are those of no classifier.

    Example:

    >>> from keras_advdef.core.softmax_head import logits_of
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    >>> x = tf.zeros((1, 2))
    >>> logits_of("PGD", model, x, model(x), model).numpy().tolist()
    [[0.0, 0.0, 0.0]]
    """
    outputs = single_output(owner, outputs)
    logits = undo_head(owner, outputs)
    if logits is not None:
        return logits
    if _show_logits(outputs) or _returns(owner, model, images, run) == _LOGITS:
        return two_class_logits(tf.cast(outputs, tf.float32))
    return log_probabilities(outputs)


def hides_head(
    owner: str, model: Any, images: tf.Tensor, outputs: Any, run: Callable[..., Any]
) -> bool:
    """Returns whether a graph of a classifier shows a head that eager outputs do not.

    Args:
        owner: Name of the class or function that calls the classifier.
        model: The classifier.
        images: What it was called on.
        outputs: What it returned.
        run: Calls the classifier without side effects.

    Example:

    >>> from keras_advdef.core.softmax_head import hides_head
    >>> x = tf.zeros((1, 3))
    >>> model = tf.nn.softmax
    >>> hides_head("PGD", model, x, model(x), model)
    True
    """
    if not tf.executing_eagerly():
        return False
    outputs = single_output(owner, outputs)
    if undo_head(owner, outputs) is not None or _show_logits(outputs):
        return False
    return _returns(owner, model, images, run) == _HEAD


def _show_logits(outputs: tf.Tensor) -> bool:
    if tf.executing_eagerly():
        return not are_probabilities(outputs)
    return is_unbounded(outputs)


def uses_log_probabilities(model: Any) -> bool:
    """Returns whether the logarithm of a model's probabilities stands for its logits.

    Args:
        model: A classifier that `logits_of` has met.

    Example:

    >>> keras_advdef.core.softmax_head.uses_log_probabilities(len)
    False
    """
    return _known.get(id(model)) == _PROBABILITIES


def _returns(owner: str, model: Any, images: tf.Tensor, run: Callable[..., Any]) -> str:
    found = _known.get(id(model))
    if found is None:
        found = _look(owner, model, images, run)
        # What cannot be watched is looked at each time.
        with contextlib.suppress(TypeError):
            weakref.finalize(model, _known.pop, id(model), None)
            _known[id(model)] = found
        if found == _PROBABILITIES:
            _tell(model)
    return found


def _look(owner: str, model: Any, images: tf.Tensor, run: Callable[..., Any]) -> str:
    """Traces a model for its head; where none shows, looks at what it returns."""
    seen = []

    def traced(probes: tf.Tensor) -> tf.Tensor:
        outputs = single_output(owner, run(probes))
        is_undone = undo_head(owner, outputs) is not None
        seen.append(_HEAD if is_undone else _LOGITS if is_unbounded(outputs) else None)
        return outputs

    # Also where the model is being traced or runs on one of several replicas.
    with tf.init_scope(), draw_scope(make_key(0)):
        probes = _probes(images)
        function = tf.function(traced, autograph=False).get_concrete_function(probes)
        if seen[-1]:
            return seen[-1]
        outputs = function(probes).numpy()
    is_sure = are_probabilities(outputs) and _loss_agrees(model, outputs)
    return _PROBABILITIES if is_sure else _LOGITS


def _loss_agrees(model: Any, outputs: np.ndarray) -> bool:
    """Returns whether values that look like probabilities may be some.

    Those of one unit may be logits by chance; the loss knows.
    """
    if outputs.shape[1] != 1 or not isinstance(model, keras.Model):
        return True
    losses = keras.tree.flatten(compiled_loss(model) if model.compiled else None)
    return all(expects_probabilities(each) is not False for each in losses)


def _probes(images: tf.Tensor) -> tf.Tensor:
    """Returns images of many levels and contrasts, of the shape of others."""
    count, *sizes = images.shape
    *sides, channels = sizes
    sides = [side or _UNKNOWN_SIZE for side in sides]
    generator = np.random.default_rng(0)
    shape = (count or _PROBES, *sides, channels or _UNKNOWN_CHANNELS)
    ones = (shape[0],) + (1,) * len(sizes)
    contrast, level = generator.uniform(size=(2, *ones))
    made = level + contrast * (generator.uniform(size=shape) - level)
    return tf.cast(made, images.dtype)


def _tell(model: Any) -> None:
    name = getattr(model, "name", None) or getattr(model, "__name__", "model")
    warnings.warn(
        f"`{name}` returns probabilities, and nothing shows how they were made: their "
        "logarithm stands for logits, which loses gradients where it is sure of a "
        "class. Return logits, or end the model in a softmax or sigmoid of Keras.",
        stacklevel=2,
    )

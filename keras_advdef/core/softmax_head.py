"""Logits from a classifier's outputs: undoes a softmax or sigmoid head.

A tensor itself shows how it was made. In a graph, its operation does; in eager mode,
`keras.ops.softmax` and `keras.ops.sigmoid` attach their logits to it, for Keras's
cross-entropies. So no model has to be rebuilt. This works for functional, subclassed
and quantized models and for plain functions, however deep the head is nested.
"""

import contextlib
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_training import compiled_loss
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope

Run = Callable[[tf.Tensor], Any]

# Operations that do not change the numbers.
_PASSES = ("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims")
_HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
# Their results are not probabilities: affine maps, or logarithms.
_UNBOUNDED = ("BiasAdd", "MatMul", "BatchMatMulV2", "LogSoftmax", "Log")
_CLASSES = "a classifier with one output of shape (batch, classes)"
# Smaller probabilities are raised to this, so that their logarithm is finite.
_SMALLEST = 1e-30
_TOLERANCE = 1e-3
# In bfloat16, sums are rough.
_ROUGH_TOLERANCE = 0.05
# Sizes of probe images along axes of unknown size.
_UNKNOWN_SIZE = 32
_UNKNOWN_CHANNELS = 3
_PROBES = 16
# What a model returns: logits; the result of a head that its graph shows; or, as the
# sum of each row, scores of unknown origin: probabilities, or votes.
_LOGITS = 0.0
_HEAD = -1.0
# Loss names that Keras resolves by the shapes of labels and outputs.
_NAMED_BY_SHAPE = ("crossentropy", "ce")
# One of these for each model that was looked at, by its id, while it lives.
_known: dict[int, float] = {}


def single_output(owner: str, outputs: Any) -> tf.Tensor:
    """Returns a classifier's only output, out of a list or dictionary if need be.

    Args:
        owner: Name of the class or function that calls the classifier.
        outputs: The outputs of the classifier.

    Returns:
        Tensor of shape `(batch, units)`.

    Raises:
        ValueError: If there are several tensors, or one of another rank.

    Example:

    >>> outputs = {"probabilities": tf.constant([[0.5, 0.5]])}
    >>> keras_advdef.core.softmax_head.single_output("PGD", outputs).shape
    TensorShape([1, 2])
    """
    flat = keras.tree.flatten(outputs)
    check_outputs(owner, flat)
    if not tf.is_tensor(flat[0]) or flat[0].shape.rank != 2:
        advice = "Pass a model whose last layer returns one logit per class."
        raise invalid(owner, "model", _CLASSES, flat[0], advice=advice)
    return flat[0]


def check_outputs(owner: str, outputs: Sequence[tf.Tensor | keras.KerasTensor]) -> None:
    """Raises unless a model has exactly one output.

    Args:
        owner: Name of the class or function that takes the model.
        outputs: List of tensors, symbolic or not.

    Raises:
        ValueError: If there are several or none.

    Example:

    >>> keras_advdef.core.softmax_head.check_outputs("PGD", [tf.zeros((1, 2))])
    """
    if len(outputs) != 1:
        rule = f"{_CLASSES}, not {len(outputs)}"
        advice = "Pass `keras.Model(model.inputs, output)` with the output to attack."
        raise invalid(owner, "model", rule, outputs, advice=advice)


def undo_head(owner: str, outputs: tf.Tensor) -> tf.Tensor | None:
    """Returns the logits of a softmax or sigmoid, or `None` if none is visible.

    Args:
        owner: Name of the class or function that calls the classifier.
        outputs: The outputs of the classifier, `(batch, units)`.

    Returns:
        Float32 tensor of shape `(batch, classes)`: the argument of the softmax, or for
        the sigmoid of one logit z the two logits 0 and z.

    Raises:
        ValueError: If the head is a softmax of one unit, which is always 1, or a
            sigmoid of several units, whose classes do not exclude each other.

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
    """Returns the logits 0 and z for a single logit z, and others unchanged.

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
    """Returns the symbolic logits for a classifier's symbolic outputs.

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
    """Returns whether the graph shows that a tensor does not hold probabilities.

    Args:
        outputs: The outputs of a classifier.

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


def _maker(tensor: tf.Tensor) -> tf.Operation:
    """Returns the operation that computed the numbers in a graph tensor."""
    # An eager constant has no operation until it enters the graph.
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
        # A reshape has mixed the classes with other axes.
        return None
    return head, tf.ensure_shape(tf.reshape(logits, tf.shape(outputs)), outputs.shape)


def _left_by_keras(outputs: tf.Tensor) -> tuple[str, tf.Tensor] | None:
    logits = getattr(outputs, "_keras_logits", None)
    if logits is None or logits.shape != outputs.shape:
        return None
    # Keras does not say which of the two heads they belong to.
    heads = [("softmax", tf.nn.softmax), ("sigmoid", tf.nn.sigmoid)]
    if outputs.shape[1] == 1:
        heads.reverse()
    gaps = {
        name: float(tf.reduce_max(tf.abs(head(logits) - outputs)))
        for name, head in heads
    }
    return min(gaps, key=gaps.__getitem__), logits


def row_total(outputs: np.ndarray) -> float:
    """Returns what each row of scores sums to: 1 for probabilities, 7 for seven votes.

    Rows with NaN do not count. A single unit is one probability of two.

    Args:
        outputs: A classifier's outputs for some images, `(batch, units)`.

    Returns:
        The sum; 0 for logits, which are negative or have sums that differ.

    Example:

    >>> total = keras_advdef.core.softmax_head.row_total
    >>> total(np.array([[0.25, 0.75], [1.0, 0.0]])), total(np.array([[3.0], [0.2]]))
    (1.0, 0.0)
    """
    outputs = np.asarray(outputs, np.float32)
    outputs = outputs[~np.isnan(outputs).any(axis=-1)]
    if not outputs.size or outputs.min() < 0.0 or np.isinf(outputs).any():
        return 0.0
    if outputs.shape[1] == 1:
        # A sigmoid is never exactly 0 everywhere; an untrained logit may be.
        return float(outputs.max() <= 1.0 + _TOLERANCE and outputs.any())
    # In float64, where they do not overflow.
    sums = outputs.sum(axis=-1, dtype=np.float64)
    total = float(np.median(sums))
    if np.abs(sums - 1.0).max() < _TOLERANCE:
        return 1.0
    # One row, or the same again and again, has a sum, but need not be votes.
    is_one = np.abs(sums - total).max() < _TOLERANCE * total
    return total if is_one and (outputs != outputs[0]).any() else 0.0


def log_scores(scores: tf.Tensor, total: float = 1.0) -> tf.Tensor:
    """Returns the logarithm of probabilities or votes, to be used as logits.

    Rows that are no scores of this sum come back as they are: what a model returned for
    the probe images need not be what it always returns.

    Args:
        scores: Tensor `(batch, units)`; a single unit is the probability of class 1.
        total: What each row sums to.

    Returns:
        Float32 tensor `(batch, classes)`.

    Example:

    >>> log_scores = keras_advdef.core.softmax_head.log_scores
    >>> tf.exp(log_scores(tf.constant([[0.25]]))).numpy().tolist()
    [[0.75, 0.25]]
    """
    scores = tf.cast(scores, tf.float32)
    plain = two_class_logits(scores)
    if scores.shape[1] == 1:
        scores = tf.concat([1.0 - scores, scores], axis=1)
    if total != 1.0:
        scores /= total
    gap = tf.abs(tf.reduce_sum(scores, axis=1) - 1.0)
    fits = (tf.reduce_min(scores, axis=1) >= -_TOLERANCE) & (gap < _ROUGH_TOLERANCE)
    logs = tf.math.log(tf.maximum(scores, _SMALLEST))
    return tf.where(fits[:, None], logs, plain)


def expects_probabilities(loss: Any) -> bool | None:
    """Returns whether a loss expects probabilities; `None` if it does not say.

    Args:
        loss: Loss of a compiled model: a name, function or `keras.losses.Loss`.

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
    owner: str, model: Any, images: tf.Tensor, outputs: Any, run: Run
) -> tf.Tensor:
    """Returns the logits for a classifier's outputs, whatever their form.

    If the outputs are probabilities whose head cannot be undone, their logarithm serves
    as logits, and the user is warned once per model. So does the logarithm of votes.

    Args:
        owner: Name of the class or function that calls the classifier.
        model: The classifier.
        images: Its inputs.
        outputs: Its outputs for them.
        run: Calls the classifier without side effects. It is traced once and called
            on a few probe images, if the outputs alone do not show what they are.

    Returns:
        Float32 tensor of shape `(batch, classes)`, with at least two classes.

    Raises:
        ValueError: If the outputs are not those of a classifier.

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
    total = _LOGITS
    if not _show_logits(model, outputs):
        total = _returns(owner, model, images, run)
    if total == _LOGITS:
        return two_class_logits(tf.cast(outputs, tf.float32))
    # A head that shows only in the graph, but not here, gave probabilities.
    return log_scores(outputs, 1.0 if total == _HEAD else total)


def hides_head(
    owner: str, model: Any, images: tf.Tensor, outputs: Any, run: Run
) -> bool:
    """Returns whether a classifier's graph shows a head that eager outputs hide.

    Args:
        owner: Name of the class or function that calls the classifier.
        model: The classifier.
        images: Its inputs.
        outputs: Its outputs for them.
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
    if undo_head(owner, outputs) is not None or _show_logits(model, outputs):
        return False
    return _returns(owner, model, images, run) == _HEAD


def _show_logits(model: object, outputs: tf.Tensor) -> bool:
    if tf.executing_eagerly():
        # Votes are found in graphs, where a look costs no call of the model.
        return row_total(outputs) != 1.0 and not _known.get(id(model))
    return is_unbounded(outputs)


def score_total(model: object) -> float:
    """Returns what the scores sum to whose logarithms serve as a model's logits.

    Args:
        model: A classifier that `logits_of` was called on.

    Returns:
        1 for probabilities, the number of votes for votes; 0 if the model gives logits.

    Example:

    >>> keras_advdef.core.softmax_head.score_total(len)
    0.0
    """
    return max(0.0, _known.get(id(model), _LOGITS))


def _returns(owner: str, model: Any, images: tf.Tensor, run: Run) -> float:
    found = _known.get(id(model))
    if found is None:
        found = _look(owner, model, images, run)
        # Objects without weak references are probed each time.
        with contextlib.suppress(TypeError):
            weakref.finalize(model, _known.pop, id(model), None)
            _known[id(model)] = found
        if found == 1.0:
            _tell(model)
    return found


def _look(owner: str, model: Any, images: tf.Tensor, run: Run) -> float:
    """Traces a model to find its head; if none shows, looks at its outputs."""
    seen = []

    def traced(probes: tf.Tensor) -> tf.Tensor:
        outputs = single_output(owner, run(probes))
        is_undone = undo_head(owner, outputs) is not None
        seen.append(_HEAD if is_undone else _LOGITS if is_unbounded(outputs) else None)
        return outputs

    # Works during a trace and on one of several replicas, too.
    with tf.init_scope(), draw_scope(make_key(0)):
        batches = _probes(images)
        function = tf.function(traced, autograph=False)
        function = function.get_concrete_function(batches[0])
        if seen[-1] is not None:
            return seen[-1]
        outputs = np.concatenate([function(probes) for probes in batches])
    total = row_total(outputs)
    is_sure = total == 1.0 and outputs.shape[1] != 1
    return total if is_sure or _loss_agrees(model) else _LOGITS


def _loss_agrees(model: object) -> bool:
    """Returns whether the model's loss allows its outputs to be scores.

    The logits of a single unit may look like probabilities by chance, and trained
    logits may have one sum.
    """
    if not isinstance(model, keras.Model):
        return True
    losses = keras.tree.flatten(compiled_loss(model) if model.compiled else None)
    return all(expects_probabilities(each) is not False for each in losses)


def _probes(images: tf.Tensor) -> list[tf.Tensor]:
    """Returns batches of probe images of many brightness levels and contrasts.

    They have the shape of the images, which the model may need. One row alone would not
    show whether all have the same sum.
    """
    count, *sizes = images.shape
    *sides, channels = sizes
    sides = [side or _UNKNOWN_SIZE for side in sides]
    generator = np.random.default_rng(0)
    shape = (count or _PROBES, *sides, channels or _UNKNOWN_CHANNELS)
    ones = (shape[0],) + (1,) * len(sizes)
    batches = []
    for _ in range(-(-_PROBES // shape[0])):
        contrast, level = generator.uniform(size=(2, *ones))
        made = level + contrast * (generator.uniform(size=shape) - level)
        batches.append(tf.cast(made, images.dtype))
    return batches


def _tell(model: object) -> None:
    name = getattr(model, "name", None) or getattr(model, "__name__", "model")
    warnings.warn(
        f"`{name}` returns probabilities, but does not show how it made them. Their "
        "logarithm serves as logits, which loses gradients where the model is certain. "
        "Return logits, or end the model in a Keras softmax or sigmoid.",
        stacklevel=2,
    )

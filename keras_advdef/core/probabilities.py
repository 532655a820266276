"""Classifiers that return probabilities whose softmax or sigmoid cannot be seen."""

import contextlib
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.keras_training import compiled_loss
from keras_advdef.core.output_head import (
    is_affine,
    single_output,
    two_classes,
    undone,
)
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope

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

    >>> check = keras_advdef.core.probabilities.are_probabilities
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


def logarithms(probabilities: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of probabilities, which serves as logits.

    Args:
        probabilities: Tensor `(batch, units)`; one unit holds that of class 1.

    Returns:
        Float32 tensor `(batch, classes)`.

    Example:

    >>> logarithms = keras_advdef.core.probabilities.logarithms
    >>> tf.exp(logarithms(tf.constant([[0.25]]))).numpy().tolist()
    [[0.75, 0.25]]
    """
    probabilities = tf.cast(probabilities, tf.float32)
    if probabilities.shape[1] == 1:
        probabilities = tf.concat([1.0 - probabilities, probabilities], axis=1)
    return tf.math.log(tf.maximum(probabilities, _SMALLEST))


def takes_probabilities(loss: Any) -> bool | None:
    """Returns whether a loss takes probabilities; `None` if it does not say.

    Args:
        loss: What a model was compiled with: a name, function or `keras.losses.Loss`.

    Example:

    >>> takes = keras_advdef.core.probabilities.takes_probabilities
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

    >>> from keras_advdef.core.probabilities import logits_of
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    >>> x = tf.zeros((1, 2))
    >>> logits_of("PGD", model, x, model(x), model).numpy().tolist()
    [[0.0, 0.0, 0.0]]
    """
    outputs = single_output(owner, outputs)
    logits = undone(owner, outputs)
    if logits is not None:
        return logits
    if _show_logits(outputs) or _returns(owner, model, images, run) == _LOGITS:
        return two_classes(tf.cast(outputs, tf.float32))
    return logarithms(outputs)


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

    >>> from keras_advdef.core.probabilities import hides_head
    >>> x = tf.zeros((1, 3))
    >>> model = tf.nn.softmax
    >>> hides_head("PGD", model, x, model(x), model)
    True
    """
    if not tf.executing_eagerly():
        return False
    outputs = single_output(owner, outputs)
    if undone(owner, outputs) is not None or _show_logits(outputs):
        return False
    return _returns(owner, model, images, run) == _HEAD


def _show_logits(outputs: tf.Tensor) -> bool:
    if tf.executing_eagerly():
        return not are_probabilities(outputs)
    return is_affine(outputs)


def stands_for_logits(model: Any) -> bool:
    """Returns whether the logarithm of a model's probabilities stands for its logits.

    Args:
        model: A classifier that `logits_of` has met.

    Example:

    >>> keras_advdef.core.probabilities.stands_for_logits(len)
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
        is_undone = undone(owner, outputs) is not None
        seen.append(_HEAD if is_undone else _LOGITS if is_affine(outputs) else None)
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
    return all(takes_probabilities(each) is not False for each in losses)


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

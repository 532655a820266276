"""Any classifier as a function from images to logits; softmax heads are undone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.arguments import checked_choice
from keras_advdef.core.errors import invalid, wrong_type
from keras_advdef.core.keras_private import (
    flat_layers,
    has_graph,
    kept_losses,
    seed_state_variables,
)
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.precision import (
    PRECISIONS,
    cannot_switch,
    check_switch,
    head_layers,
    in_bfloat16,
)
from keras_advdef.core.random_state import RandomLayer, scope_key
from keras_advdef.core.softmax_head import without_softmax
from keras_advdef.core.value_range import ValueRange

# A constant scale: the optimizer's own grows to 2**15, where input gradients overflow.
_FLOAT16_SCALE = 2.0**10
_PROBABILITY_TOLERANCE = 1e-5
_FEWEST_CLASSES = 2
# What layers raise that meet a tensor of another dtype than their own.
_DTYPE_ERRORS = (
    TypeError,
    ValueError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)


class LogitsModel(keras.Model):
    """Base of models that return something else than logits but can be attacked.

    Ensembles, detectors and generative defences return probabilities or dictionaries
    to their users. Attacks ask them for `logits`.

    Example:

    >>> class Halves(keras_advdef.core.logits.LogitsModel):
    ...     def logits(self, images, training=False):
    ...         return keras.ops.reshape(images, (-1, 2))
    >>> Halves().member_logits(np.zeros((3, 1, 2, 1))).shape
    TensorShape([3, 1, 2])
    """

    # Whether the last logit stands for "adversarial" instead of a class.
    rejects = False
    # Over how many draws of its random layers one call averages.
    averaged_draws = 1

    def logits(self, images: Any, training: bool = False) -> Any:
        """Returns the logits behind the prediction, shape `(batch, classes)`."""
        raise NotImplementedError(f"`{type(self).__name__}` must write `logits`.")

    def member_logits(self, images: Any, training: bool = False) -> Any:
        """Returns each member's logits, shape `(batch, members, classes)`."""
        return tf.expand_dims(self.logits(images, training=training), axis=1)


class LogitsFunction:
    """A classifier as attacks see it: images in, float32 logits out, no side effects.

    Nothing a call of a Keras model does stays behind: its moving averages, counters
    and losses are what they were. Inside a `draw_scope`, Keras's own random layers draw
    from the scope too. A plain function is called as it is.

    Args:
        model: The classifier: a `keras.Model`, `LogitsModel` or any function that
            maps images of shape `(batch, rows, cols, channels)` to logits; or a
            `ModelView` of one.
        training: Whether the model is called as in training.
        precision: "float32" for the model as it is, or "bfloat16" for a faster pass
            on the same variables; see `in_bfloat16`. The last layer of a Sequential
            or functional model stays in float32.
        value_range: The range of the pixels that the model expects. The function
            itself always takes images in `[0, 1]`.

    Raises:
        TypeError: If `model` cannot be called.
        ValueError: If the model has several outputs, or, in the constructor or the
            call, if it cannot run in bfloat16.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...     keras.layers.Dense(3, activation="softmax")])
    >>> logits = keras_advdef.core.logits.LogitsFunction(model)
    >>> logits(np.zeros((2, 4, 4, 1), "float32")).numpy().tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        model: Any,
        *,
        training: bool = False,
        precision: str = "float32",
        value_range: ValueRange = ValueRange(),  # noqa: B008 - it cannot change
    ) -> None:
        self.view = model if isinstance(model, ModelView) else ModelView(model)
        self.model = self.view.model
        if not callable(self.model):
            rule = "a Keras model or a function from images to logits"
            raise wrong_type("LogitsFunction", "model", rule, self.model)
        self.training = training
        self.precision = checked_choice(
            "LogitsFunction", "precision", precision, PRECISIONS
        )
        self._is_keras = isinstance(self.model, keras.layers.Layer)
        self.value_range = value_range
        self._exact = None
        if precision != "float32":
            self._exact = LogitsFunction(
                model, training=training, value_range=value_range
            )
        self._look_inside()

    def _look_inside(self) -> None:
        self.is_opaque = False
        # Not `_call`: `tf.function` copies attributes over its own, which has that.
        self._forward: Callable[..., Any] = self.model
        if isinstance(self.model, LogitsModel):
            self._forward = self.model.logits
        elif has_graph(self.model):
            _check_single_output(self.model)
            self._forward = without_softmax(self.model) or self.model
        else:
            self.is_opaque = True
        self._seed_states = seed_state_variables(self.model) if self._is_keras else []
        if self._exact is not None:
            check_switch(self.model)
            self._head = head_layers(self.model)

    @property
    def exact(self) -> "LogitsFunction":
        """The same model at its own precision; itself without `precision`."""
        return self if self._exact is None else self._exact

    @property
    def is_random(self) -> bool:
        """Whether two calls may differ; what a plain function does is not known."""
        if self.view.is_random is not None:
            return self.view.is_random
        layers = flat_layers(self.model) if self._is_keras else []
        draws = any(isinstance(layer, RandomLayer) and layer.draws for layer in layers)
        return draws or (self.training and bool(self._seed_states))

    @property
    def gradient_scale(self) -> float:
        """Factor that keeps input gradients of a float16 model from vanishing."""
        is_switched = self.precision == "bfloat16"
        layers = flat_layers(self.model) if self._is_keras and not is_switched else []
        is_half = any(layer.compute_dtype == "float16" for layer in layers)
        return _FLOAT16_SCALE if is_half else 1.0

    def build(self, shape: tuple[int, ...]) -> None:
        """Builds a model that has no weights yet.

        Args:
            shape: Shape of one image.
        """
        if self._is_keras and not self.model.built:
            with tf.init_scope():
                # `build` alone would leave the layers of a subclassed model unbuilt.
                self.model(keras.KerasTensor((None, *shape)))
            self._look_inside()
            if self._exact is not None:
                self._exact._look_inside()

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 logits of shape `(batch, classes)`."""
        pixels = self.view.seen(self.value_range.from_unit(images))
        outputs = self._outputs if self._exact is None else self._bfloat16_outputs
        return self._checked(self.view.logits(images, outputs(pixels)))

    def member_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the float32 `member_logits` of a `LogitsModel`, at full precision."""
        pixels = self.view.seen(self.value_range.from_unit(images))
        return tf.cast(self._outputs(pixels, self.model.member_logits), tf.float32)

    def _outputs(self, images: tf.Tensor, forward: Any = None) -> Any:
        forward = forward or self._forward
        if not self._is_keras:
            return forward(images)
        with (
            kept_losses(self.model),
            keras.StatelessScope(state_mapping=self._drawn_seed_states()),
            self.view.applied(),
        ):
            return forward(images, training=self.training)

    def _bfloat16_outputs(self, images: tf.Tensor) -> Any:
        with in_bfloat16(self.model, keep=self._head):
            try:
                return self._outputs(images)
            except _DTYPE_ERRORS as error:
                cause = error
        # What is wrong in float32 too is told as it is.
        self._outputs(images)
        what = f"`{self.model.name}`, whose own code fails in bfloat16"
        raise cannot_switch(what) from cause

    def _drawn_seed_states(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        drawn = []
        for state in self._seed_states:
            key = scope_key()
            if key is not None:
                drawn.append((state, tf.cast(tf.abs(key), state.dtype)))
        return drawn

    def _checked(self, outputs: Any) -> tf.Tensor:
        rank = getattr(getattr(outputs, "shape", None), "rank", None)
        if rank != 2 or (outputs.shape[1] or _FEWEST_CLASSES) < _FEWEST_CLASSES:
            rule = "a classifier with one output of shape (batch, classes >= 2)"
            advice = "Give a model whose last layer returns one logit per class."
            raise invalid("LogitsFunction", "model", rule, outputs, advice=advice)
        return tf.cast(outputs, tf.float32)

    def check_values(self, logits: np.ndarray) -> None:
        """Raises if a model returns probabilities and its softmax was not undone.

        Args:
            logits: What the model returned for a few images, shape
                `(batch, classes)`.

        Raises:
            ValueError: If every row lies in `[0, 1]` and sums to one.
        """
        if self.returns_probabilities(logits) and not self.view.log_probabilities:
            raise _cannot_undo(self.model)

    def returns_probabilities(self, outputs: np.ndarray) -> bool:
        """Returns whether a model shows probabilities that no softmax head explains.

        Args:
            outputs: What it returned for a few images, shape `(batch, classes)`.
        """
        sums = np.abs(outputs.sum(axis=-1) - 1.0) < _PROBABILITY_TOLERANCE
        is_as_given = self._forward is self.model
        return bool(is_as_given and sums.all() and outputs.min() >= 0.0)


def _cannot_undo(model: Any) -> ValueError:
    advice = (
        "Its softmax cannot be undone: that takes a Sequential or functional model "
        "whose last layer is a softmax of Keras. Remove the softmax and use a loss "
        "with `from_logits=True`."
    )
    return invalid("LogitsFunction", "model", "one with logits", model, advice=advice)


def check_head(model: Any, *, returns_probabilities: bool) -> None:
    """Raises if a model is known to end in a softmax that cannot be undone.

    Args:
        model: The classifier.
        returns_probabilities: Whether its loss is compiled for probabilities.

    Raises:
        ValueError: If it returns probabilities and cannot be looked into.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> keras_advdef.core.logits.check_head(model, returns_probabilities=True)
    """
    if returns_probabilities and LogitsFunction(model).is_opaque:
        raise _cannot_undo(model)


def _check_single_output(model: keras.Model) -> None:
    if len(model.outputs) != 1:
        rule = "a classifier with one output"
        raise invalid("LogitsFunction", "model", rule, model)

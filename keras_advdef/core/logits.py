"""Any classifier as a function from images to logits; softmax heads are undone."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.errors import checked_choice, wrong_type
from keras_advdef.core.export_model import export_model
from keras_advdef.core.keras_private import (
    flat_layers,
    has_graph,
    preserve_losses,
    seed_state_variables,
)
from keras_advdef.core.model_inputs import call_classifier, single_input
from keras_advdef.core.model_view import ModelView, inline_calls, inline_function
from keras_advdef.core.precision import (
    PRECISIONS,
    bfloat16_error,
    check_bfloat16,
    head_layers,
    in_bfloat16,
)
from keras_advdef.core.random_state import RandomLayer, draw_scope, scope_key
from keras_advdef.core.random_stream import preserve_variables
from keras_advdef.core.softmax_head import (
    check_outputs,
    hides_head,
    logits_of,
    single_output,
)
from keras_advdef.core.value_range import ValueRange

# A constant scale: the optimizer's own grows to 2**15, where input gradients overflow.
_FLOAT16_SCALE = 2.0**10
_OWNER = "LogitsFunction"
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

    @property
    def trained(self) -> keras.Model:
        """The classifier that objectives and penalties train; of most models itself."""
        return self

    def logits(self, images: Any, training: bool = False) -> Any:
        """Returns the logits behind the prediction, shape `(batch, classes)`."""
        raise NotImplementedError(f"`{type(self).__name__}` must write `logits`.")

    def member_logits(self, images: Any, training: bool = False) -> Any:
        """Returns each member's logits, shape `(batch, members, classes)`."""
        return tf.expand_dims(self.logits(images, training=training), axis=1)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Exports the model as it predicts; see `models.export_model`.

        Args:
            filepath: Folder or file to write.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        export_model(self, filepath, *args, **kwargs)


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
        self._traced: dict[tuple[str, ...], Callable[..., tf.Tensor]] = {}
        if precision != "float32":
            self._exact = LogitsFunction(
                model, training=training, value_range=value_range
            )
        self._look_inside()

    def _look_inside(self) -> None:
        # Not `_call`: `tf.function` copies attributes over its own, which has that.
        self._forward: Callable[..., Any] = self.model
        if isinstance(self.model, LogitsModel):
            self._forward = self.model.logits
        elif self._is_keras:
            self._forward = functools.partial(call_classifier, self.model)
        if has_graph(self.model):
            check_outputs(_OWNER, self.model.outputs)
        self._seed_states = seed_state_variables(self.model) if self._is_keras else []
        if self._exact is not None:
            check_bfloat16(self.model)
            self._head = head_layers(self.model)

    @property
    def full_precision(self) -> "LogitsFunction":
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
        logits = self.view.logits(images, self._logits(pixels))
        _note(self, images, logits)
        return logits

    def _logits(self, pixels: tf.Tensor) -> tf.Tensor:
        outputs = self._outputs if self._exact is None else self._bfloat16_outputs
        found = outputs(pixels)
        if isinstance(self.model, LogitsModel):
            return tf.cast(single_output(_OWNER, found), tf.float32)
        run = (self._exact or self)._outputs
        if hides_head(_OWNER, self.model, pixels, found, run):
            return self._logits_in_graph(pixels)
        return logits_of(_OWNER, self.model, pixels, found, run)

    def _logits_in_graph(self, pixels: tf.Tensor) -> tf.Tensor:
        key = scope_key()
        given = (pixels,) if key is None else (pixels, key)
        shapes = tuple(str(each.shape) for each in given)
        if shapes not in self._traced:
            function = tf.function(self._logits_in_scope, autograph=False)
            self._traced[shapes] = function.get_concrete_function(*given)
        return self._traced[shapes](*given)

    def _logits_in_scope(self, pixels: tf.Tensor, key: Any = None) -> tf.Tensor:
        with contextlib.nullcontext() if key is None else draw_scope(key):
            return self._logits(pixels)

    def member_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the float32 `member_logits` of a `LogitsModel`, at full precision."""
        pixels = self.view.seen(self.value_range.from_unit(images))
        return tf.cast(self._outputs(pixels, self.model.member_logits), tf.float32)

    def _outputs(self, images: tf.Tensor, forward: Any = None) -> Any:
        forward = forward or self._forward
        if not self._is_keras:
            return forward(images)
        with (
            preserve_losses(self.model),
            preserve_variables(self._drawn_seed_states()),
            inline_calls(self.model),
            self.view.applied(),
        ):
            return inline_function(forward)(images, training=self.training)

    def _bfloat16_outputs(self, images: tf.Tensor) -> Any:
        with in_bfloat16(self.model, keep=self._head):
            try:
                return self._outputs(images)
            except _DTYPE_ERRORS as error:
                cause = error
        # What is wrong in float32 too is told as it is.
        self._outputs(images)
        what = f"`{self.model.name}`, whose own code fails in bfloat16"
        raise bfloat16_error(what) from cause

    def _drawn_seed_states(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        drawn = []
        for state in self._seed_states:
            key = scope_key()
            if key is not None:
                drawn.append((state, tf.cast(tf.abs(key), state.dtype)))
        return drawn


def classifier_logits(
    classifier: Any, images: Any, *, training: bool = False
) -> tf.Tensor:
    """Calls a classifier as Keras does, and undoes its softmax.

    Unlike `LogitsFunction`, which attacks use, it lets moving averages move and random
    layers count on, so that a model made of classifiers can be trained.

    Args:
        classifier: A `keras.Model` that returns logits, or probabilities if it ends in
            a softmax of Keras.
        images: Tensor of shape `(batch, rows, cols, channels)`.
        training: Whether it is called as in training.

    Returns:
        Float32 tensor of shape `(batch, classes)`.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    >>> from keras_advdef.core.logits import classifier_logits
    >>> classifier_logits(model, np.zeros((1, 2))).numpy().tolist()
    [[0.0, 0.0, 0.0]]
    """
    if isinstance(classifier, LogitsModel):
        return tf.cast(classifier.logits(images, training=training), tf.float32)
    outputs = call_classifier(classifier, images, training=training)
    return logits_from_outputs(classifier, images, outputs)


def logits_from_outputs(classifier: Any, images: Any, outputs: Any) -> tf.Tensor:
    """Returns the logits for what a classifier returned, at no further pass.

    Args:
        classifier: A `keras.Model`.
        images: What it was called on, or its `image_spec`.
        outputs: What it returned.

    Returns:
        Float32 tensor of shape `(batch, classes)`.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    >>> from keras_advdef.core.logits import logits_from_outputs
    >>> x = np.zeros((1, 2))
    >>> logits_from_outputs(model, x, model(x)).numpy().tolist()
    [[0.0, 0.0]]
    """

    def run(probes: tf.Tensor) -> Any:
        with preserve_losses(classifier), keras.StatelessScope():
            return call_classifier(classifier, probes, training=False)

    if not isinstance(images, tf.TensorSpec):
        images = tf.convert_to_tensor(single_input("classifier_logits", images))
    return logits_of("classifier_logits", classifier, images, outputs, run)


# The tensor that is watched, and what was called on it with which logits.
_Looks = list[tuple[Any, tf.Tensor]]


class _Watched(threading.local):
    images: Any = None
    looks: _Looks | None = None


_watched = _Watched()


@contextlib.contextmanager
def watch_logits(images: tf.Tensor) -> Iterator[_Looks]:
    """Collects the logits that models give for one tensor while the body runs.

    Only a call on that very tensor counts, in the same graph, so that the logits can
    be used behind the body.

    Args:
        images: The tensor.

    Yields:
        A list of pairs, the logits function and its logits, that grows.

    Example:

    >>> from keras_advdef.core.logits import watch_logits
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(lambda images: 2.0 * images)
    >>> images = tf.ones((1, 2))
    >>> with watch_logits(images) as looks:
    ...     _ = logits_fn(images), logits_fn(images + 1.0)
    >>> [logits.numpy().tolist() for _, logits in looks]
    [[[2.0, 2.0]]]
    """
    before = _watched.images, _watched.looks
    looks: _Looks = []
    _watched.images, _watched.looks = images, looks
    try:
        yield looks
    finally:
        _watched.images, _watched.looks = before


def _note(logits_fn: "LogitsFunction", images: tf.Tensor, logits: tf.Tensor) -> None:
    looks = _watched.looks
    if looks is None or images is not _watched.images:
        return
    # The body of a loop is a graph of its own, and its tensors stay there.
    if tf.executing_eagerly() or logits.graph is images.graph:
        looks.append((logits_fn, logits))

"""LogitsFunction: any classifier as a function from images to logits."""

import contextlib
import copy
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
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
from keras_advdef.core.masked_classes import finite_masks
from keras_advdef.core.model_inputs import build_model, call_classifier, single_input
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

# Constant: an optimizer's loss scale grows to 2**15, where input gradients overflow.
_FLOAT16_SCALE = 2.0**10
_OWNER = "LogitsFunction"
# Raised by layers that get a tensor of the wrong dtype.
_DTYPE_ERRORS = (
    TypeError,
    ValueError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)


# Pairs of a logits function and its logits for the watched tensor.
_Forward = Callable[..., Any]
_Looks = list[tuple["LogitsFunction", tf.Tensor]]


class LogitsModel(keras.Model):
    """Base of models that do not return logits, but can be attacked through them.

    Ensembles, detectors and generative defences return probabilities or dictionaries
    from `call`. Attacks call `logits` instead, and ensemble losses `member_logits`.
    A subclass writes `call` and `logits`; an ensemble also writes `member_logits`.

    Attributes:
        rejects: Whether the last logit means "adversarial" and not a class. Default
            False.
        averaged_draws: Draws of its random layers that one call averages. Default 1.

    Example:

    >>> class Averaged(keras_advdef.core.LogitsModel):
    ...     def __init__(self, members):
    ...         super().__init__()
    ...         self.members = members
    ...     def logits(self, images, training=False):
    ...         return sum(each(images, training=training) for each in self.members)
    ...     def call(self, images, training=False):
    ...         return keras.ops.softmax(self.logits(images, training=training))
    >>> ensemble = Averaged([keras.layers.Dense(3), keras.layers.Dense(3)])
    >>> ensemble(np.zeros((1, 4), "float32")).numpy().round(3)
    array([[0.333, 0.333, 0.333]], dtype=float32)
    >>> logits = keras_advdef.core.LogitsFunction(ensemble)
    >>> logits(np.zeros((1, 4), "float32")).numpy()
    array([[0., 0., 0.]], dtype=float32)
    """

    rejects: bool = False
    averaged_draws: int = 1

    # Not a property: Keras walks all attributes of a model that it loads.
    def classifier_to_train(self) -> keras.Model:
        """Returns what objectives and penalties run: most models themselves."""
        return self

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logits of the prediction, shape `(batch, classes)`."""
        raise NotImplementedError(f"`{type(self).__name__}` must write `logits`.")

    def member_logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns each member's logits, shape `(batch, members, classes)`."""
        return tf.expand_dims(self.logits(images, training=training), axis=1)

    def export(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Exports the model as it predicts; see `models.export_model`.

        Args:
            filepath: Folder or file to write.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        export_model(self, filepath, *args, **kwargs)


class LogitsFunction:
    """A classifier as attacks see it: images in, float32 logits out, no side effects.

    A call leaves moving averages, counters and losses of a Keras model unchanged, and
    undoes a softmax or sigmoid at its end. Inside a `draw_scope`, Keras's own random
    layers draw from the scope, too. A plain function is called directly. A logit of
    minus infinity, which excludes a class, becomes -1e38.

    Args:
        model: The classifier: a `keras.Model`, a `LogitsModel`, or a function from
            images of shape `(batch, rows, cols, channels)` to logits; or a `ModelView`
            of one of these.
        training: Whether the model is called in training mode.
        precision: "float32" for the model as it is, or "bfloat16" for a faster pass
            on the same variables; see `in_bfloat16`. The last layer of a Sequential
            or functional model stays in float32.
        value_range: `ValueRange` of the pixels that the model expects. The function
            itself always takes images in `[0, 1]`.

    Call arguments:
        images: Float32 tensor of shape `(batch, rows, cols, channels)`, in `[0, 1]`.

    Returns:
        Float32 tensor of shape `(batch, classes)`.

    Raises:
        TypeError: If `model` is not callable.
        ValueError: If the model has several outputs, or cannot run in bfloat16. The
            latter may show only in a call.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(),
    ...     keras.layers.Dense(3, activation="softmax")])
    >>> logits = keras_advdef.core.LogitsFunction(model)
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
        self._exact: LogitsFunction | None = None
        # Which values may change, and the images that all others are taken from.
        self._frame: tuple[tf.Tensor, tf.Tensor] | None = None
        self._traced: dict[tuple[str, ...], Callable[..., tf.Tensor]] = {}
        if precision != "float32":
            self._exact = LogitsFunction(
                model, training=training, value_range=value_range
            )
        self._look_inside()

    def _look_inside(self) -> None:
        # Not `_call`, an attribute of `tf.function`, which copies these over its own.
        self._forward: _Forward = self.model
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
        """The function at the model's own precision; `self` unless in bfloat16."""
        return self if self._exact is None else self._exact

    @property
    def is_random(self) -> bool:
        """Whether two calls may differ; always False for a plain function."""
        if self.view.is_random is not None:
            return self.view.is_random
        layers = flat_layers(self.model) if self._is_keras else []
        draws = any(isinstance(layer, RandomLayer) and layer.draws for layer in layers)
        return draws or (self.training and bool(self._seed_states))

    @property
    def gradient_scale(self) -> float:
        """Loss scale that keeps input gradients of a float16 model from vanishing."""
        is_switched = self.precision == "bfloat16"
        layers = flat_layers(self.model) if self._is_keras and not is_switched else []
        is_half = any(layer.compute_dtype == "float16" for layer in layers)
        return _FLOAT16_SCALE if is_half else 1.0

    def build(self, shape: tuple[int, ...]) -> None:
        """Builds the model if it has no weights yet.

        Args:
            shape: Shape of one image.
        """
        if self._is_keras and not self.model.built:
            build_model(self.model, shape)
            self._look_inside()
            if self._exact is not None:
                self._exact._look_inside()

    def within(self, mask: tf.Tensor | None, images: tf.Tensor) -> "LogitsFunction":
        """Returns the function of images of which only some values may change.

        All others are taken from the clean images, so gradients there are zero.

        Args:
            mask: Booleans of the shape of `images`; `None` for the function itself.
            images: The clean images in `[0, 1]`.
        """
        if mask is None:
            return self
        found = copy.copy(self)
        found._frame = (mask, images)
        if self._exact is not None:
            found._exact = self._exact.within(mask, images)
        return found

    @property
    def mask(self) -> tf.Tensor | None:
        """Which values of the images may change; `None` for all."""
        return None if self._frame is None else self._frame[0]

    def confined(self, points: tf.Tensor) -> tf.Tensor:
        """Returns points with the values of the clean images where none may change."""
        if self._frame is None:
            return points
        mask, images = self._frame
        return tf.where(mask, points, images)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 logits of shape `(batch, classes)`."""
        points = self.confined(images)
        logits = self.on_pixels(self.value_range.from_unit(points))
        _note(self, images, logits)
        return logits

    @tf.autograph.experimental.do_not_convert
    def on_pixels(self, pixels: tf.Tensor) -> tf.Tensor:
        """Returns the logits for images in `value_range`, as they are.

        The way to `[0, 1]` and back rounds pixels, which may move an image across a
        boundary.

        Args:
            pixels: Float32 tensor of shape `(batch, rows, cols, channels)`.

        Returns:
            Float32 tensor of shape `(batch, classes)`.
        """
        logits = self._logits(self.view.seen(pixels))
        return finite_masks(self.view.logits(pixels, logits))

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

    def _logits_in_scope(
        self, pixels: tf.Tensor, key: tf.Tensor | None = None
    ) -> tf.Tensor:
        with contextlib.nullcontext() if key is None else draw_scope(key):
            return self._logits(pixels)

    def member_logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns float32 `member_logits` of a `LogitsModel`, at full precision."""
        pixels = self.view.seen(self.value_range.from_unit(self.confined(images)))
        found = tf.cast(self._outputs(pixels, self.model.member_logits), tf.float32)
        return finite_masks(found)

    def _outputs(self, images: tf.Tensor, forward: _Forward | None = None) -> Any:
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
        # An error that float32 raises, too, is raised as it is.
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
    classifier: keras.Model, images: Any, *, training: bool = False
) -> tf.Tensor:
    """Calls a classifier as Keras does, and undoes its softmax or sigmoid.

    Unlike `LogitsFunction`, it updates moving averages and random states, so models
    made of classifiers can be trained with it.

    Args:
        classifier: A `keras.Model` that returns logits or probabilities.
        images: Tensor of shape `(batch, rows, cols, channels)`.
        training: Whether it is called in training mode.

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


def logits_from_outputs(
    classifier: keras.Model, images: Any, outputs: Any
) -> tf.Tensor:
    """Returns the logits for outputs of a classifier, without another forward pass.

    Args:
        classifier: A `keras.Model`.
        images: Its inputs, or their `image_spec`.
        outputs: Its outputs for them.

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


class _Watched(threading.local):
    images: Any = None
    looks: _Looks | None = None


_watched = _Watched()


@contextlib.contextmanager
def watch_logits(images: tf.Tensor) -> Iterator[_Looks]:
    """Collects the logits that logits functions return for one tensor in the body.

    Only calls on this tensor object, in the same graph, are collected, so the logits
    can be used after the body.

    Args:
        images: The tensor.

    Yields:
        A growing list of pairs of a logits function and its logits.

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
    # Tensors of a loop's body cannot leave the body's own graph.
    if tf.executing_eagerly() or logits.graph is images.graph:
        looks.append((logits_fn, logits))

"""InputTransform: base of the layers that transform images inside a model."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_choice
from keras_advdef.core.gradients import are_defences_bypassed
from keras_advdef.core.image_layout import (
    checked_data_format,
    from_channels_last,
    to_channels_last,
)
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import RandomLayer, draw_scope
from keras_advdef.core.value_range import ValueRange

_ACTIVE = ("always", "inference", "training")
# Normalised images may exceed [0, 1] slightly; images in [0, 255] exceed it by far.
_CLEARLY_BEYOND = 16.0


class InputTransform(RandomLayer):
    """Base of layers that transform images, in front of a classifier or inside it.

    A subclass writes `transform`, which takes and returns float32 images in `[0, 1]`,
    channels last. The base maps `value_range` to `[0, 1]` and back, keeps the dtype and
    the order of the axes, and decides when the layer is active. Keras does not autocast
    its inputs, so the layer sees exact pixels under mixed precision too.

    Args:
        value_range: Pair `(low, high)`, the range of the pixels.
        active: "always", "inference" or "training". When the layer transforms images.
        data_format: "channels_last" or "channels_first"; `None` for
            `keras.config.image_data_format`.
        seed: Start of the random stream; see `RandomLayer`.
        **kwargs: `name`, `dtype` and others; see `keras.layers.Layer`.

    Call arguments:
        images: Tensor of shape `(batch, rows, cols, channels)`, or in the order of
            `data_format`, with pixels in `value_range`.
        training: Whether the model is being trained.

    Raises:
        ValueError: If `value_range`, `active` or `data_format` has another value.

    Example:

    >>> layer = keras_advdef.layers.BitDepthReduction(1, value_range=(0, 255))
    >>> layer(np.full((1, 1, 1, 1), 200.0)).numpy().item()
    255.0
    """

    # A subclass that works with either order of the axes sets this to False; its images
    # are then not transposed.
    is_spatial: bool = True

    def __init__(
        self,
        *,
        value_range: tuple[float, float] = (0.0, 1.0),
        active: str = "always",
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, **{"autocast": False, **kwargs})
        owner = type(self).__name__
        self.value_range = ValueRange.parse(owner, value_range)
        self.active = checked_choice(owner, "active", active, _ACTIVE)
        self.data_format = checked_data_format(owner, data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        # Whether the range of the first images is still to be checked.
        self.is_due = self.value_range.is_unit

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the transformed images, float32 in `[0, 1]`."""
        raise NotImplementedError(f"`{type(self).__name__}` must write `transform`.")

    def pass_through(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the output while the layer is inactive, float32 in `[0, 1]`."""
        return images

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the images in their range and dtype, transformed if active.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the model runs in training mode.

        Returns:
            Tensor of shape `(batch, rows, cols, channels)`.
        """
        if self.is_due and tf.executing_eagerly():
            self._check_range(images)
        active = self.active == "always" or (self.active == "training") == bool(
            training
        )
        unit = self.value_range.to_unit(tf.cast(images, tf.float32))
        acts = active and not are_defences_bypassed()
        order = self.data_format if self.is_spatial else "channels_last"
        unit = to_channels_last(unit, order)
        unit = self.transform(unit) if acts else self.pass_through(unit)
        unit = from_channels_last(unit, order)
        return tf.cast(self.value_range.from_unit(unit), _float_dtype(images))

    def _check_range(self, images: tf.Tensor) -> None:
        """Warns if the first concrete images show that `value_range` was forgotten."""
        self.is_due = False
        highest = float(tf.reduce_max(tf.cast(images, tf.float32)))
        if highest > _CLEARLY_BEYOND:
            text = (
                f"`{self.name}` ({type(self).__name__}) expects pixels in [0, 1] and "
                f"clips others, but received {highest:g}. Pass "
                "`value_range=(0, 255)`, or put the layer after a `Rescaling`."
            )
            warnings.warn(text, stacklevel=3)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the input shape; a subclass that changes sizes overrides it."""
        return tuple(input_shape)

    def compute_output_spec(
        self, images: keras.KerasTensor, training: bool | None = None
    ) -> keras.KerasTensor:
        """Returns the symbolic output, which differs from the input in size only."""
        shape = self.compute_output_shape(images.shape)
        return keras.KerasTensor(shape, dtype=_float_dtype(images))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "value_range": list(self.value_range),
            "active": self.active,
            "data_format": self.data_format,
        }


def show_images(model: Callable[..., Any], images: np.ndarray) -> None:
    """Runs a model on one concrete image, so that its layers can check the range.

    Args:
        model: Any model or function. Nothing happens if it has no `InputTransform`.
        images: A batch in the model's range.
    """
    layers = flat_layers(model) if isinstance(model, keras.layers.Layer) else []
    if any(isinstance(each, InputTransform) and each.is_due for each in layers):
        image = tf.cast(tf.convert_to_tensor(images[:1]), tf.float32)
        with draw_scope(make_key(0)):
            LogitsFunction(model)(image)


def _float_dtype(images: tf.Tensor | keras.KerasTensor) -> str:
    """Returns the dtype of the images, or float32 for integers."""
    dtype = keras.backend.standardize_dtype(images.dtype)
    return dtype if keras.backend.is_float_dtype(dtype) else "float32"

"""A classifier's input: one image tensor, in any structure, rank and dtype."""

import warnings
import weakref
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import FloatFunctional, has_graph
from keras_advdef.core.model_view import unwrap_view
from keras_advdef.core.traced_function import outside_of_traces

Images = TypeVar("Images", np.ndarray, tf.Tensor)

_IMAGE_RANK = 4
# Models with an integer input, rebuilt for floats: their output and the new model.
_floats: weakref.WeakKeyDictionary[keras.Model, tuple[keras.KerasTensor, keras.Model]]
_floats = weakref.WeakKeyDictionary()


def single_input(owner: str, images: Any, *, argument: str = "images") -> Any:
    """Returns a model's only input, out of a list or dictionary if need be.

    Args:
        owner: Name of the class or function that takes the images.
        images: Array or tensor, or a dictionary or list that holds only one.
        argument: Name of the argument.

    Returns:
        The array or tensor; a list of single images is returned unchanged.

    Raises:
        ValueError: If there are several inputs.

    Example:

    >>> images = np.zeros((2, 8, 8, 1))
    >>> single_input = keras_advdef.core.model_inputs.single_input
    >>> single_input("PGD", {"image": images}) is images
    True
    """
    is_keyed = isinstance(images, dict)
    is_listed = isinstance(images, (list, tuple)) and all(
        isinstance(each, (np.ndarray, tf.Tensor)) and each.ndim >= _IMAGE_RANK
        for each in images
    )
    if not (is_keyed or (is_listed and images)):
        return images
    if len(images) != 1:
        rule = "one array, alone or in a dictionary or list"
        shown = sorted(map(str, images)) if is_keyed else f"{len(images)} arrays"
        raise invalid(owner, argument, rule, shown)
    (alone,) = images.values() if is_keyed else images
    return alone


def add_channels(images: Images) -> Images:
    """Returns images with a channel axis, `(batch, rows, cols, channels)`.

    Args:
        images: Array or tensor, with or without that axis.

    Example:

    >>> keras_advdef.core.model_inputs.add_channels(np.zeros((2, 8, 8))).shape
    (2, 8, 8, 1)
    """
    return images[..., None] if len(images.shape) == _IMAGE_RANK - 1 else images


def check_image_shape(owner: str, model: Any, images: np.ndarray) -> None:
    """Raises if images do not have the shape of a model's `Input`.

    Args:
        owner: Name of the class or function that takes the images.
        model: Any model or function. Without an `Input`, nothing is checked.
        images: Array `(batch, rows, cols, channels)`.

    Raises:
        ValueError: If a graph of layers has an `Input` of another shape.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten()])
    >>> check_image_shape = keras_advdef.core.model_inputs.check_image_shape
    >>> check_image_shape("PGD", model, np.zeros((2, 8, 8, 1)))
    """
    if not has_graph(unwrap_view(model)):
        return
    (wanted, *_) = (tensor.shape for tensor in unwrap_view(model).inputs)
    sizes = wanted[1:] if len(wanted) == _IMAGE_RANK else (*wanted[1:], 1)
    given = images.shape[1:]
    if len(sizes) != len(given) or any(
        size not in (None, other) for size, other in zip(sizes, given, strict=True)
    ):
        rule = f"images of the model's input shape, {wanted}"
        raise invalid(owner, "images", rule, images)


def image_spec(model: keras.Model) -> tf.TensorSpec:
    """Returns the shape and dtype of the images that a classifier takes.

    Args:
        model: A classifier that was built or called.

    Raises:
        ValueError: If it was not, so that nobody knows.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    >>> keras_advdef.core.model_inputs.image_spec(model)
    TensorSpec(shape=(None, 8, 8, 1), dtype=tf.float32, name=None)
    """
    if has_graph(model):
        return tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, tuple):
        rule = "a classifier that knows the shape of its images"
        advice = "Call it once on images, or return `input_shape` from its "
        advice += "`get_build_config`."
        raise invalid(type(model).__name__, "model", rule, model, advice=advice)
    return tf.TensorSpec(shape)


def build_model(
    model: keras.Model, shape: tuple[int | None, ...], dtype: str = "float32"
) -> None:
    """Creates the weights of a model that has none yet, also during a trace.

    Args:
        model: A model of images.
        shape: Shape of one image.
        dtype: Of the images.

    Example:

    >>> model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> keras_advdef.core.model_inputs.build_model(model, (2, 2, 1))
    >>> model.count_params()
    15
    """
    with outside_of_traces():
        # `build` alone would leave the layers of a subclassed model unbuilt.
        model(keras.KerasTensor((None, *shape), dtype))


def call_classifier(model: keras.Model, images: Any, **arguments: Any) -> Any:
    """Calls a classifier on images in the form that it expects.

    For a graph of layers, Keras itself drops or adds a last axis of size 1; here
    subclassed models also get the rank they were built for. An integer `Input` does
    not round float images, so gradients reach them.

    Args:
        model: A Keras model.
        images: Tensor of images, alone or in a structure of one.
        **arguments: `training`.

    Returns:
        The outputs of the model.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> call = keras_advdef.core.model_inputs.call_classifier
    >>> call(model, tf.zeros((2, 8, 8, 1)), training=False).shape
    TensorShape([2, 3])
    """
    images = single_input(type(model).__name__, images)
    if not has_graph(model):
        return model(_with_axes(images, _built_rank(model)), **arguments)
    if len(model.inputs) != 1:
        rule = "a classifier with one input"
        advice = "Wrap it in a model that computes its other inputs from the images."
        raise invalid("LogitsFunction", "model", rule, model.inputs, advice=advice)
    is_sequential = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if is_sequential else model.input
    called = _of_floats(model, structure) if _are_floats(images) else model
    if isinstance(structure, dict):
        images = {name: images for name in structure}
    return called(images, **arguments)


def _built_rank(model: keras.Model) -> int | None:
    shape = (model.get_build_config() or {}).get("input_shape")
    return len(shape) if isinstance(shape, tuple) else None


def _with_axes(images: Images, rank: int | None) -> Images:
    is_map = len(images.shape) == _IMAGE_RANK and images.shape[-1] == 1
    return images[..., 0] if is_map and rank == _IMAGE_RANK - 1 else images


def _are_floats(images: np.ndarray | tf.Tensor) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(images.dtype))


def _of_floats(model: keras.Model, structure: Any) -> keras.Model:
    """Returns a model of the same layers that does not round floats."""
    if _are_floats(model.inputs[0]):
        return model
    output, found = _floats.get(model, (None, model))
    if output is not model.outputs[0]:
        found = FloatFunctional(structure, model.outputs, name=model.name)
        _floats[model] = (model.outputs[0], found)
        warnings.warn(
            f"`{model.name}` has an `Input` of {model.inputs[0].dtype}, which would "
            "round adversarial images, so it is called on floats. Round images "
            "yourself before you pass them to the model.",
            stacklevel=2,
        )
    return found

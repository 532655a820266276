"""Splits the augmentation at the front of a classifier from the rest of it."""

import warnings
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import (
    BaseImagePreprocessingLayer,
    consumers,
    flat_layers,
    has_graph,
    seed_state_variables,
)
from keras_advdef.core.value_range import ValueRange
from keras_advdef.surgery import rewrite


class Augmentation:
    """The random layers at the front of a classifier, and the classifier without them.

    Rescaling between random layers is undone, so that augmented images stay in the
    range of the originals. The given classifier is not changed; both share all weights.

    Attributes:
        layers: The layers that were split off.
        classifier: The classifier without its augmentation.
        unsplit: Names of augmentation layers that stay in the classifier.

    Args:
        classifier: A built model.
    """

    def __init__(self, classifier: keras.Model) -> None:
        layers = _leading(classifier)[0] if has_graph(classifier) else []
        while layers and not _is_augmentation(layers[-1]):
            layers.pop()
        self.layers = layers
        split_off = [each for each in layers if _is_augmentation(each)]
        gone = {id(inner) for each in split_off for inner in flat_layers(each)}
        still = _at_inference(classifier) if has_graph(classifier) else set()
        # Augmentation in the middle, or inside a model that is not functional.
        self.unsplit = [
            each.name
            for each in flat_layers(classifier)
            if _is_augmentation(each) and id(each) not in gone | still
        ]
        self.classifier = classifier
        if split_off:
            self.classifier = rewrite(
                classifier,
                lambda layer: [keras.layers.Identity()] if id(layer) in gone else None,
            )

    def warn_of_rest(self, owner: str) -> None:
        """Warns about augmentation that stays in the classifier.

        Args:
            owner: Name of the class that trains.
        """
        if self.unsplit:
            names = ", ".join(f"`{name}`" for name in self.unsplit)
            text = (
                f"`{owner}` attacks images before {names}, which shift the "
                "perturbation in training. Put augmentation at the front of a "
                "Sequential or functional classifier, or into the data pipeline."
            )
            warnings.warn(text, stacklevel=3)

    def __call__(self, images: tf.Tensor, value_range: ValueRange | None) -> tf.Tensor:
        """Returns the images augmented, as float32 in their own range.

        Args:
            images: Batch of images.
            value_range: The range of the images, to which the result is clipped, or
                `None`.
        """
        if not self.layers:
            return images
        for layer in self.layers:
            augments = _is_augmentation(layer)
            images = layer(images, training=True) if augments else layer(images)
        for layer in reversed(self.layers):
            if not _is_augmentation(layer):
                images = _undone(layer, images)
        images = tf.cast(images, tf.float32)
        return images if value_range is None else tf.clip_by_value(images, *value_range)


def _is_augmentation(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, keras.layers.Pipeline):
        return all(map(_is_augmentation, layer.layers))
    return isinstance(layer, BaseImagePreprocessingLayer) and bool(
        seed_state_variables(layer)
    )


def _leading(model: keras.Model) -> tuple[list[keras.layers.Layer], bool]:
    """Returns the first layers that may be split off, and whether they are all."""
    found: list[keras.layers.Layer] = []
    for layer in _line(model):
        if isinstance(layer, keras.Model) and has_graph(layer):
            inner, is_whole = _leading(layer)
            found += inner
            if not is_whole:
                return found, False
        elif not _may_lead(layer, model):
            return found, False
        else:
            found.append(layer)
    return found, True


def _line(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model from its input until they branch."""
    if isinstance(model, keras.Sequential):
        yield from (
            each
            for each in model.layers
            if not isinstance(each, keras.layers.InputLayer)
        )
        return
    (tensor, *others) = model.inputs
    while not others and len(users := consumers(model, tensor)) == 1:
        operation, (tensor, *others), arguments = users[0]
        if arguments.get("training") is False:
            return
        yield operation


def _at_inference(model: keras.Model) -> set[int]:
    """Returns the layers that a graph always calls with `training=False`."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting = [] if isinstance(model, keras.Sequential) else list(model.inputs)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        for operation, outputs, arguments in consumers(model, tensor):
            waiting += outputs
            if arguments.get("training") is False:
                found.update(map(id, flat_layers(operation)))
    return found


def _may_lead(layer: keras.layers.Layer, model: keras.Model) -> bool:
    """Returns whether range and size of a layer's inputs follow from its outputs."""
    if isinstance(layer, keras.layers.Normalization):
        return not layer.invert
    if not _is_augmentation(layer):
        return isinstance(layer, keras.layers.Rescaling)
    shape = tuple(model.inputs[0].shape)
    parts = layer.layers if isinstance(layer, keras.layers.Pipeline) else [layer]
    return all(tuple(each.compute_output_shape(shape)) == shape for each in parts)


def _undone(layer: keras.layers.Layer, images: tf.Tensor) -> tf.Tensor:
    if isinstance(layer, keras.layers.Rescaling):
        scale, offset = (
            tf.cast(each, images.dtype) for each in (layer.scale, layer.offset)
        )
        return (images - offset) / scale
    least = keras.backend.epsilon()
    deviation = tf.maximum(tf.sqrt(tf.cast(layer.variance, images.dtype)), least)
    return images * deviation + tf.cast(layer.mean, images.dtype)

"""The classifier that the demo trains."""

import keras

_LARGEST_MAP = 8


def _convolution(filters: int, *, strides: int) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        filters, 3, strides=strides, padding="same", activation="relu"
    )


def small_network(input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Builds a small convolutional network that returns logits.

    Strided convolutions first halve the image until it is at most 8x8, so that large
    images stay affordable on a CPU.

    Args:
        input_shape: `(rows, cols, channels)` of images in `[0, 1]`.
        classes: Number of classes.

    Returns:
        A model from images to logits of shape `(batch, classes)`.

    Example:

    >>> from keras_advdef.cli.demo._small_network import small_network
    >>> small_network((28, 28, 1), 10).output_shape
    (None, 10)
    """
    layers = [keras.Input(input_shape)]
    size, filters = max(input_shape[:2]), 32
    while size > _LARGEST_MAP:
        layers.append(_convolution(filters, strides=2))
        size, filters = -(-size // 2), 64
    layers += [
        _convolution(filters, strides=1),
        _convolution(64, strides=2),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(classes),
    ]
    return keras.Sequential(layers)

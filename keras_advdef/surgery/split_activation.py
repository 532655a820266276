"""split_activation: splits a layer into its linear part and its activation."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_advdef.core.keras_private import twin_layer

CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_FUSED = (keras.layers.Dense, keras.layers.EinsumDense, *CONVOLUTIONS)


def fused_activation(
    layer: keras.Operation,
) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Returns the activation that a layer applies to its outputs.

    Args:
        layer: Any layer or operation.

    Returns:
        The function, or `None` if there is none, or the layer does not work without
        it.

    Example:

    >>> from keras_advdef.surgery.split_activation import fused_activation
    >>> fused_activation(keras.layers.Dense(3)) is None
    True
    """
    if not isinstance(layer, _FUSED):
        return None
    linear = keras.activations.linear
    return None if layer.activation in (None, linear) else layer.activation


def split_activation(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer without its activation, and the activation, for `rewrite`.

    The first layer has the name of the original and shares its variables.

    Args:
        layer: A built dense or convolutional layer, such as
            `Conv2D(16, 3, activation="relu")`; any other layer is returned unchanged.

    Returns:
        Both layers; or only `layer` if it has no activation to split off.

    Example:

    >>> layer = keras.layers.Dense(3, activation="relu")
    >>> layer.build((None, 4))
    >>> linear, relu = keras_advdef.surgery.split_activation(layer)
    >>> linear.kernel is layer.kernel
    True
    >>> inputs = np.ones((2, 4), "float32")
    >>> bool(np.all(relu(linear(inputs)) == layer(inputs)))
    True
    """
    activation = fused_activation(layer)
    if activation is None:
        return [layer]
    linear = twin_layer(layer, activation=keras.activations.linear)
    name = f"{layer.name}_activation"
    dtype = layer.dtype_policy
    return [linear, keras.layers.Activation(activation, name=name, dtype=dtype)]

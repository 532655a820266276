"""set_kl_weight: sets the weight of the KL divergence by the number of images."""

from collections.abc import Sized

import keras

from keras_advdef.core.errors import checked_integer, invalid
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.layers.variational_layer import VariationalLayer


def set_kl_weight(model: keras.Model, images: int | Sized) -> None:
    """Sets the `kl_weight` of all variational layers in a model to 1 / images.

    The compiled loss is a mean over images, while the evidence lower bound is a sum
    over all of them. To make them agree, the divergence is divided by the number of
    training images, not by the batch size or the number of batches.

    Args:
        model: A model with variational layers, possibly in nested models. It may be in
            the middle of training.
        images: Number of training images; or an array or `tf.data.Dataset` of them,
            whose length is used. The length of a batched data set counts batches, so
            pass the number instead.

    Raises:
        ValueError: If the model has no variational layer, or the number of images is
            below 1.

    Example:

    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras_advdef.layers.VariationalDense(3)])
    >>> keras_advdef.layers.set_kl_weight(model, 50000)
    >>> round(model.layers[0].kl_weight * 50000, 6)
    1.0
    """
    count = len(images) if isinstance(images, Sized) else images
    count = checked_integer("set_kl_weight", "images", count, low=1)
    for layer in variational_layers("set_kl_weight", model):
        layer.kl_weight = 1.0 / count


def variational_layers(owner: str, model: keras.Model) -> list[VariationalLayer]:
    """Returns the variational layers of a model, or raises if it has none.

    Args:
        owner: Name of the class or function that asks for them.
        model: Any model.

    Returns:
        A list of layers, including those of nested models.

    Raises:
        ValueError: If there is none.
    """
    layers = [
        layer for layer in flat_layers(model) if isinstance(layer, VariationalLayer)
    ]
    if not layers:
        raise invalid(owner, "model", "one with a variational layer", model)
    return layers

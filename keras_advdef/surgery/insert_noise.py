"""insert_noise: adds the noise of Random Self-Ensemble to an existing model."""

import keras

from keras_advdef.core.errors import checked_number, invalid
from keras_advdef.layers import RandomNoise
from keras_advdef.surgery._names import Names
from keras_advdef.surgery.rewrite import rewrite
from keras_advdef.surgery.split_activation import CONVOLUTIONS


def insert_noise(
    model: keras.Model, *, first: float = 0.2, inner: float = 0.1, copy: bool = False
) -> keras.Model:
    """Returns a model with normal noise before every convolution.

    This is the network of Random Self-Ensemble (Liu, Cheng, Zhang, Hsieh, ECCV 2018).
    The noise is active in training and at inference. Fine-tune the model with it, or it
    loses much accuracy, and average its predictions with `models.RandomSelfEnsemble`.

    Args:
        model: A built `keras.Sequential` or functional model; see `rewrite`.
        first: Number of at least 0. Standard deviation before the first convolution, in
            the units of its input: of images in `[0, 1]`, unless the model rescales or
            normalises them first.
        inner: Number of at least 0. Standard deviation before all other convolutions.
        copy: Whether the new model gets its own copy of the weights.

    Returns:
        A new model that shares its layers with `model`, unless `copy` is set.

    Raises:
        ValueError: If a standard deviation is negative, or the model has no convolution
            or cannot be rebuilt.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3),
    ...     keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> noisy = keras_advdef.surgery.insert_noise(model)
    >>> [type(layer).__name__ for layer in noisy.layers[:4]]
    ['RandomNoise', 'Conv2D', 'RandomNoise', 'Conv2D']
    >>> ensemble = keras_advdef.models.RandomSelfEnsemble(noisy, samples=10)
    """
    owner = "insert_noise"
    first = checked_number(owner, "first", first, low=0.0)
    inner = checked_number(owner, "inner", inner, low=0.0)
    found: list[keras.Operation] = []
    names = Names(model)

    def rule(layer: keras.Operation) -> list[keras.Operation] | None:
        if not isinstance(layer, CONVOLUTIONS):
            return None
        stddev = inner if found else first
        found.append(layer)
        name = names.new(f"{layer.name}_noise")
        return [RandomNoise(stddev, name=name, dtype=layer.dtype_policy), layer]

    noisy = rewrite(model, rule, copy=copy, owner=owner)
    if not found:
        advice = "Add `layers.RandomNoise` where you want noise."
        rule_text = "a model with a convolution"
        raise invalid(owner, "model", rule_text, model, advice=advice)
    return noisy

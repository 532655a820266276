"""to_variational: gives the weights of a model that exists standard deviations."""

from typing import Any

import keras

from keras_advdef.core.errors import invalid
from keras_advdef.layers import (
    VariationalConv2D,
    VariationalDense,
    VariationalDepthwiseConv2D,
    VariationalLayer,
)
from keras_advdef.surgery.rewrite import rewrite

_VARIATIONAL: dict[type, type[VariationalLayer]] = {
    keras.layers.Dense: VariationalDense,
    keras.layers.Conv2D: VariationalConv2D,
    keras.layers.DepthwiseConv2D: VariationalDepthwiseConv2D,
}

# A seed or a name would be that of every layer.
_OPTIONS = (
    "posterior_initializer",
    "prior_stddev",
    "kl_weight",
    "estimator",
    "variational_bias",
    "deterministic",
)


def to_variational(
    model: keras.Model, *, copy: bool = False, **options: Any
) -> keras.Model:
    """Returns a model whose dense and convolutional layers draw their weights.

    Each `Dense`, `Conv2D` and `DepthwiseConv2D` becomes the variational layer of that
    kind, with the weights as means. Train it on with `AdversarialTrainingModel` for
    Adv-BNN (Liu, Li, Wu, Hsieh, ICLR 2019). All other layers, subclasses of those three
    among them, are used again.

    Args:
        model: A built `keras.Sequential` or functional model; see `rewrite`.
        copy: Whether the other layers get weights of their own; the means always are
            copies.
        **options: `posterior_initializer`, `prior_stddev`, `kl_weight`, `estimator`,
            `variational_bias`, `deterministic`; see `layers.VariationalLayer`.

    Returns:
        A new model.

    Raises:
        ValueError: If an option is unknown or out of its range, or the model has no
            such layer or cannot be taken apart.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> bayesian = keras_advdef.surgery.to_variational(model, kl_weight=1 / 50000)
    >>> type(bayesian.layers[0]).__name__
    'VariationalDense'
    >>> bool(np.all(bayesian.layers[0].kernel == model.layers[0].kernel))
    True
    """
    owner = "to_variational"
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise invalid(owner, "options", f"among {', '.join(_OPTIONS)}", unknown)
    # Keras would report a rejected option in many lines, when it restores a layer.
    VariationalDense(1, **options)
    found: list[Any] = []

    def rule(layer: Any) -> list[Any] | None:
        kind = _VARIATIONAL.get(type(layer))
        if kind is None:
            return None
        new = kind.from_config({**layer.get_config(), **options})
        new.build_from_config(layer.get_build_config())
        new.kernel.assign(layer.kernel)
        if layer.bias is not None:
            new.bias.assign(layer.bias)
        found.append(new)
        return [new]

    variational = rewrite(model, rule, copy=copy, owner=owner)
    if not found:
        rule_text = "a model with a `Dense`, `Conv2D` or `DepthwiseConv2D` layer"
        raise invalid(owner, "model", rule_text, model)
    return variational

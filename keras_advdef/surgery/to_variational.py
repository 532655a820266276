"""to_variational: makes the weights of an existing model random."""

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

# Without `seed` and `name`, which would be the same for every layer.
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
    """Returns a Bayesian version of a model, which draws its weights in every call.

    Each `Dense`, `Conv2D` and `DepthwiseConv2D` becomes the variational layer of the
    same kind, with the weights as means. Fine-tuned with `AdversarialTrainingModel`,
    this is Adv-BNN (Liu, Li, Wu, Hsieh, ICLR 2019). All other layers, including
    subclasses of these three, are reused.

    Args:
        model: A built `keras.Sequential` or functional model; see `rewrite`.
        copy: Whether the reused layers get their own copy of the weights. The means are
            always copies.
        **options: `posterior_initializer`, `prior_stddev`, `kl_weight`, `estimator`,
            `variational_bias`, `deterministic`; see `layers.VariationalLayer`.

    Returns:
        A new model.

    Raises:
        ValueError: If an option is unknown or out of range, or the model has no such
            layer or cannot be rebuilt.

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
    # Rejects bad options here; from `from_config`, Keras would wrap the error.
    VariationalDense(1, **options)
    found: list[keras.Operation] = []

    def rule(layer: keras.Operation) -> list[keras.Operation] | None:
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

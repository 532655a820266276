"""Which attacks share a compiled function: those that run the same code alike."""

import weakref
from typing import TYPE_CHECKING, Any

import keras

from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.model_view import ModelView

if TYPE_CHECKING:
    from keras_advdef.attacks.attack import Attack

# What a class may define, besides names with two underscores, without changing the code
# that its compiled functions run ...
_SETTINGS = {"default_step_size", "fill", "norms", "passes", "runs", "settled"}
# ... and what only changes how an attack moves, not how it looks at the model.
_MOVES = {
    "trace_arguments",
    "init_state",
    "keep_best",
    "moving",
    "renewed",
    "tensors",
    "update",
}
_LOOKS = ("glance", "look")

# Functions that run the code of one method.
_OWN = {"logits": "logits_function", "confirm": "confirm"}
_PACKAGE = "keras_advdef."


def code_of(cls: type, name: str) -> type:
    """Returns the class whose code a compiled function runs.

    A class of this package that only chooses settings runs that of its base.

    Args:
        cls: Class of the attack.
        name: Name of the function, a method of `TracedAttack`.

    Example:

    >>> from keras_advdef.attacks._trace_key import code_of
    >>> code_of(keras_advdef.attacks.FGSM, "move").__name__
    'GradientAttack'
    """
    if name in _OWN:
        return next(each for each in cls.__mro__ if _OWN[name] in vars(each))
    ignored = _SETTINGS | _MOVES if name in _LOOKS else _SETTINGS
    return next(each for each in cls.__mro__ if _has_code(each, ignored))


def _has_code(cls: type, ignored: set[str]) -> bool:
    if not cls.__module__.startswith(_PACKAGE):
        return True
    names = (name for name in vars(cls) if not name.startswith("__"))
    return "__call__" in vars(cls) or bool(set(names) - ignored)


def arguments_key(attack: "Attack", kind: type, name: str) -> tuple[Any, ...]:
    """Returns the arguments on which a function depends.

    An attack that holds an object which is not a plain value shares nothing, and is
    itself part of the key.

    Args:
        attack: The attack.
        kind: The class whose code the function runs.
        name: Name of the function.

    Example:

    >>> from keras_advdef.attacks._trace_key import arguments_key
    >>> attack = keras_advdef.attacks.PGD(0.1)
    >>> arguments_key(attack, keras_advdef.attacks.GradientAttack, "keep")
    (('norm', "'linf'"), ('targeted', 'False'))
    """
    names = vars(kind).get("trace_arguments", {}).get(name)
    if names is None:
        names = [each for each in type(attack).arguments() if each != "epsilon"]
    key = tuple((each, _value_key(getattr(attack, each))) for each in names)
    return key if is_plain(attack) else (*key, id(attack))


def is_plain(attack: "Attack") -> bool:
    """Returns whether all arguments of an attack are plain values.

    Args:
        attack: The attack.

    Example:

    >>> from keras_advdef.attacks._trace_key import is_plain
    >>> is_plain(keras_advdef.attacks.PGD(0.1))
    True
    """
    values = (getattr(attack, name) for name in type(attack).arguments())
    return all(isinstance(_value_key(value), str) for value in values)


def _value_key(value: Any) -> str | int:
    """Returns a text that stands for a value, or the identity of an object."""
    if isinstance(value, (bool, int, float, str, tuple, type(None))):
        return repr(value)
    if isinstance(value, AttackLoss) and type(value).__module__.startswith(_PACKAGE):
        return repr((type(value), value.get_config()))
    return id(value)


def view_key(view: ModelView) -> tuple[Any, ...]:
    """Returns what functions depend on besides the attack: the view, and the layers.

    Args:
        view: The model as the attack sees it.

    Example:

    >>> from keras_advdef.attacks._trace_key import view_key
    >>> from keras_advdef.core import ModelView
    >>> view_key(ModelView(len)) == view_key(ModelView(len, temperature=2.0))
    True
    """
    model = view.model
    layers = flat_layers(model) if isinstance(model, keras.layers.Layer) else []
    reacts = not layers or any(map(_may_react, layers))
    return (
        view.bypass_defences and reacts,
        view.smooth_gradients and reacts,
        view.has_gradient,
        view.is_random,
        # Not identities, which a new layer may inherit from a removed one.
        tuple(map(weakref.ref, view.bpda_layers)),
        tuple(map(weakref.ref, layers)),
    )


def _may_react(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer may behave otherwise in some view; Keras's own do not."""
    is_keras = type(layer).__module__.startswith("keras.")
    return not is_keras or isinstance(layer, keras.layers.Lambda)

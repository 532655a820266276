"""interval_rule: how a layer maps bounds of its inputs to bounds of its output."""

from collections.abc import Callable

import keras

from keras_advdef.core.errors import wrong_type
from keras_advdef.core.interval import Interval

BoxRule = Callable[..., Interval]
own_rules: dict[type, BoxRule] = {}


def interval_rule(*kinds: type) -> Callable[[BoxRule], BoxRule]:
    """Registers how boxes go through layers of a user's own.

    The decorated function takes the layer and an `Interval` for each of its inputs, and
    returns an `Interval` that holds every output of the layer for inputs in them, in
    the same dtype. It is for exactly these classes, since a subclass may compute
    something else. It must be differentiable to train on, and read the weights of the
    layer each time.

    Args:
        *kinds: Subclasses of `keras.layers.Layer` (or `keras.Operation`).

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        TypeError: If something else than a class of layers is given.

    Example:

    >>> class Cube(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x**3
    >>> @keras_advdef.core.interval_rule(Cube)
    ... def cube(layer, box):
    ...     return keras_advdef.core.Interval(box.lower**3, box.upper**3)
    >>> net = keras.Sequential([keras.Input((2, 1, 1)), Cube(), keras.layers.Flatten()])
    >>> keras_advdef.evaluation.certify_intervals(
    ...     net, np.reshape([0.9, 0.5], (1, 2, 1, 1)), [0], epsilon=0.1).certified
    array([ True])
    """
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, keras.Operation)):
            rule = "classes of layers"
            raise wrong_type("interval_rule", "kinds", rule, kind)

    def register(rule: BoxRule) -> BoxRule:
        own_rules.update(dict.fromkeys(kinds, rule))
        return rule

    return register

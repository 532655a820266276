"""TensorFlow Probability's distributions, loaded on first use."""

import warnings
from types import ModuleType

import tensorflow as tf


def distributions() -> ModuleType:
    """Returns the module `tensorflow_probability.distributions`.

    Loading takes seconds, so it waits until a probabilistic layer needs it.

    Returns:
        The module.

    Example:

    >>> normal = keras_advdef.layers._distributions.distributions().Normal(0.0, 2.0)
    >>> float(normal.stddev())
    2.0
    """
    # The first use may be inside a trace, where the module's constants would become
    # part of that graph. The library also warns about its own version checks.
    with tf.init_scope(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorflow_probability import distributions as module

        return module

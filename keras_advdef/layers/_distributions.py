"""TensorFlow Probability's distributions, loaded at their first use."""

import warnings
from typing import Any

import tensorflow as tf


def distributions() -> Any:
    """Returns the module `tensorflow_probability.distributions`.

    Loading it takes seconds, which only users of probabilistic layers should spend.

    Returns:
        The module.

    Example:

    >>> normal = keras_advdef.layers._distributions.distributions().Normal(0.0, 2.0)
    >>> float(normal.stddev())
    2.0
    """
    # Loading may happen while a graph is traced, where module constants would belong
    # to that graph; and the library warns of how it compares versions.
    with tf.init_scope(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorflow_probability import distributions as module

        return module

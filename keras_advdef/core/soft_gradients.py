"""The scope in which layers show attackers their smoothest gradient."""

import contextlib
from collections.abc import Iterator

from keras_advdef.core.function_scope import FunctionScope

_soft = FunctionScope()


@contextlib.contextmanager
def soft_gradients() -> Iterator[None]:
    """Makes layers that have a differentiable approximation use it backward.

    Their outputs stay the same. Attacks that know of such a layer do better so than
    with the identity, which says nothing of what the layer removes.

    Example:

    >>> layer = keras_advdef.layers.JPEGCompression(10)
    >>> images = tf.random.stateless_uniform((1, 8, 8, 1), (0, 0))
    >>> def slopes():
    ...     with tf.GradientTape() as tape:
    ...         tape.watch(images)
    ...         compressed = layer(images)
    ...     return tape.gradient(compressed, images)
    >>> bool(np.all(slopes() == 1.0))
    True
    >>> with keras_advdef.core.soft_gradients.soft_gradients():
    ...     bool(np.all(slopes() == 1.0))
    False
    """
    with _soft.holding(True):
        yield


def are_gradients_soft() -> bool:
    """Returns whether layers shall use their differentiable approximation.

    Example:

    >>> keras_advdef.core.soft_gradients.are_gradients_soft()
    False
    """
    return _soft.value() is not None

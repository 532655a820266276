"""The scope in which this package's defences stand aside, for an unaware attacker."""

import contextlib
from collections.abc import Iterator

from keras_advdef.core.function_scope import FunctionScope

_unaware = FunctionScope()


@contextlib.contextmanager
def unaware_of_defences() -> Iterator[None]:
    """Makes the defences inside a model pass their inputs on while it is called.

    What a model gives in this scope is what an attacker sees who does not know of the
    defences. It shows by how much a naive evaluation overrates them.

    Example:

    >>> layer = keras_advdef.layers.BitDepthReduction(bits=1)
    >>> with keras_advdef.core.unaware.unaware_of_defences():
    ...     layer(np.full((1, 1, 1, 1), 0.6, "float32")).numpy().item() < 0.7
    True
    """
    with _unaware.holding(True):
        yield


def is_unaware() -> bool:
    """Returns whether defences shall pass their inputs on.

    Example:

    >>> keras_advdef.core.unaware.is_unaware()
    False
    """
    return _unaware.value() is not None

"""Batches of sizes that are compiled only once."""

import numpy as np

# The last images run in blocks of the full size and of three halvings, so a model is
# traced four times at most.
_BLOCK_SIZES = 4


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """Returns the rows, repeated from the front until there are `size`."""
    return array if len(array) == size else np.resize(array, (size, *array.shape[1:]))


def block_size(rows: int, full: int) -> int:
    """Returns the smallest compiled block that holds so many rows.

    Args:
        rows: How many have to be moved on.
        full: Size of the largest block, at least `rows`.

    Example:

    >>> from keras_advdef.core.batches import block_size
    >>> block_size(20, 128), block_size(3, 128)
    (32, 16)
    """
    halvings = [full >> shift for shift in range(_BLOCK_SIZES)]
    return min(each for each in halvings if each >= rows)

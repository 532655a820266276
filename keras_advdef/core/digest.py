"""array_digest: tells whether arrays are the same ones as before."""

import hashlib

import numpy as np


def array_digest(*arrays: np.ndarray) -> str:
    """Returns a digest of arrays: of their shapes, types and values.

    Args:
        *arrays: The arrays, in an order that counts.

    Example:

    >>> from keras_advdef.core.digest import array_digest
    >>> array_digest(np.zeros(2)) == array_digest(np.zeros((2, 1)))
    False
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

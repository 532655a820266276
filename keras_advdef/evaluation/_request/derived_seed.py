"""derived_seed: seeds for the parts of an evaluation, from the user's seed."""

import hashlib

from keras_advdef.core.random_numbers import SEED_LIMIT


def derived_seed(seed: int, *parts: str | int) -> int:
    """Returns a seed that depends only on the user's seed and on the part.

    A part draws the same when it is run again, in another process or in another order.

    Args:
        seed: The user's seed.
        *parts: Names and numbers of the part.

    Returns:
        Integer in `[0, 2**31)`.

    Example:

    >>> from keras_advdef.evaluation._request.derived_seed import derived_seed
    >>> derived_seed(0, "PGD-20", 3) == derived_seed(0, "PGD-20", 3)
    True
    >>> derived_seed(0, "PGD-20", 3) == derived_seed(0, "PGD-20", 4)
    False
    """
    text = "/".join(map(str, (seed, *parts)))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEED_LIMIT

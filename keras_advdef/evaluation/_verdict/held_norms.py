"""held_norms: under which of several norms a model keeps its accuracy."""

from collections.abc import Sequence

import numpy as np

from keras_advdef.evaluation._verdict.p_values import clearly_more

# Under a norm that a model does not withstand, less than this share is left of its
# accuracy under the norm that it withstands best.
_LEFT = 0.5


def held_norms(broken: Sequence[np.ndarray]) -> list[bool] | None:
    """Returns which norms a model withstands; `None` if that is all, or not clear.

    It does not withstand a norm under which less than half is left of its best
    accuracy, if a paired sign test on the same images confirms the loss. If the loss
    under one norm is that large but not confirmed, nothing is said.

    Args:
        broken: For each norm, the share of draws in which each image is misclassified.

    Example:

    >>> from keras_advdef.evaluation._verdict.held_norms import held_norms
    >>> numbers = np.arange(100)
    >>> held_norms([numbers < 40, numbers < 95])
    [True, False]
    >>> held_norms([numbers < 40, numbers < 60])
    """
    left = [1.0 - float(np.mean(each)) for each in broken]
    best = int(np.argmax(left))
    held = [each >= _LEFT * left[best] for each in left]
    majority = [np.asarray(each) > 0.5 for each in broken]
    is_clear = all(
        is_held or clearly_more(each, majority[best])
        for each, is_held in zip(majority, held, strict=True)
    )
    return held if is_clear and not all(held) else None

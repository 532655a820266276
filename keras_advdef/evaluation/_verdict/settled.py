"""settled_check: whether an accuracy still falls with more attacks."""

from collections.abc import Sequence

from keras_advdef.evaluation.check import Check

# A round of attacks that breaks no more than this share of the images gains nothing.
_NOTHING = 0.01


def is_settled(gains: Sequence[int], count: int) -> bool:
    """Returns whether the last round gained nothing.

    Args:
        gains: Images that each round of further attacks broke.
        count: Number of images.

    Example:

    >>> from keras_advdef.evaluation._verdict.settled import is_settled
    >>> is_settled([30, 1], 100), is_settled([30, 2], 100)
    (True, False)
    """
    return gains[-1] <= _NOTHING * count


def settled_check(gains: Sequence[int], count: int) -> Check:
    """Returns the check of the accuracy after the attacks that failed checks ask for.

    Args:
        gains: Images that each round of further attacks broke, none if no check failed.
        count: Number of images.

    Example:

    >>> from keras_advdef.evaluation._verdict.settled import settled_check
    >>> settled_check([30, 9, 4], 100).passed
    False
    """
    name, reason = "settled", "the accuracy still falls with more attacks"
    if not gains:
        detail = "Not needed: no check asked for further attacks."
        return Check(name=name, passed=None, detail=detail, reason=reason)
    rounds = "a round" if len(gains) == 1 else f"{len(gains)} rounds"
    detail = (
        f"As checks failed, {rounds} of attacks without gradients followed. They broke "
        f"{sum(gains)} further images of {count}, the last round {gains[-1]}."
    )
    passed = is_settled(gains, count)
    if not passed:
        detail += " The accuracy is an upper bound that more attacks would lower."
    return Check(name=name, passed=passed, detail=detail, reason=reason)

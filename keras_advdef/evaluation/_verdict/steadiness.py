"""check_steadiness: whether a model still answers as it did, alone and in company."""

import numpy as np
import tensorflow as tf

from keras_advdef.core.random_numbers import make_key
from keras_advdef.evaluation._plan.differing_rows import differing_rows
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._verdict.not_run import not_run
from keras_advdef.evaluation.check import Check

NAME = "steady"
# Images whose logits are compared, and images that are also given one by one.
_COMPARED, _ALONE = 128, 8
# Rounding depends on the size of a batch. In half precision it reaches this share of
# the range of an image's logits.
_ROUNDING = 0.02
_REASON = "the model's answers depend on other images or on earlier calls"


def check_steadiness(
    judge: Judge, images: np.ndarray, before: np.ndarray, *, seed: int, is_random: bool
) -> Check:
    """Asks a model again for what it said before the attacks.

    Gives it the same images in the same batches, in reverse order, and one by one. A
    model that counts its calls, or whose answers depend on the rest of the batch, was
    not the same model for the attacks and for the judge.

    Args:
        judge: Runs the model.
        images: The clean images, in the value range.
        before: The logits that it gave for them before the attacks.
        seed: The seed of that look.
        is_random: Whether its answers vary by design. Then only the same batches with
            the same draws can be compared.

    Returns:
        A `Check` named "steady".
    """
    some = images[: min(_COMPARED, max(judge.batch_size, _ALONE))]
    first = before[: len(some)]
    moved = {
        "in the same batch after the attacks": _moved(judge, some, first, seed=seed)
    }
    if not is_random:
        reverse = _moved(judge, some[::-1], first[::-1], seed=seed)
        moved["in another order"] = reverse
        alone = _alone(judge, some[:_ALONE], seed)
        moved["alone"] = differing_rows(first[:_ALONE], alone, _ROUNDING)
    elif _moved(judge, some, judge.logits(some, seed), seed=seed).any():
        why = "the model draws at random in a way that cannot be repeated"
        return not_run(NAME, _REASON, why)
    worst = max(moved, key=lambda way: moved[way].mean())
    count = int(moved[worst].sum())
    detail = "The model answers as it did before the attacks"
    detail += "." if is_random else ", also for images in another order and alone."
    if count:
        detail = (
            f"The logits of {count} of {len(moved[worst])} clean images are others "
            f"{worst} than at first."
        )
    return Check(name=NAME, passed=not count, detail=detail, reason=_REASON)


def _moved(
    judge: Judge, images: np.ndarray, before: np.ndarray, *, seed: int
) -> np.ndarray:
    """Which images now get other logits than before, by more than rounding."""
    return differing_rows(before, judge.logits(images, seed), _ROUNDING)


def _alone(judge: Judge, images: np.ndarray, seed: int) -> np.ndarray:
    key = make_key(derived_seed(seed, 0))
    rows = [judge.run(tf.constant(each[None], tf.float32), key) for each in images]
    return np.concatenate([row.numpy() for row in rows])

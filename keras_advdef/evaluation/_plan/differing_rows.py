"""differing_rows: whether two runs of a model differ by more than rounding."""

from typing import Any

import keras
import numpy as np

from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.masked_classes import MASKED

# Share of the differences between an image's logits by which runs of one function may
# differ, by the coarsest dtype that its layers compute in.
_SHARES = {"float16": 2.0**-9, "bfloat16": 1e-2}
_SHARE = 1e-4
# What is added to all logits costs them digits: some units of float32.
_UNITS = 8.0 * float(np.finfo(np.float32).eps)


def half_share(model: Any) -> float:
    """Returns the share for a model's half precision; 0 if it has none.

    Args:
        model: A Keras model or any function, which is taken for one in float32.

    Example:

    >>> from keras_advdef.evaluation._plan.differing_rows import half_share
    >>> half_share(keras.layers.Dense(3, dtype="bfloat16")), half_share(len)
    (0.01, 0.0)
    """
    layers = flat_layers(model) if isinstance(model, keras.layers.Layer) else []
    return max((_SHARES.get(each.compute_dtype, 0.0) for each in layers), default=0.0)


def rounding_share(model: Any) -> float:
    """Returns by which share of an image's logits two runs of a model may differ.

    Args:
        model: A Keras model or any function, which is taken for one in float32.

    Example:

    >>> from keras_advdef.evaluation._plan.differing_rows import rounding_share
    >>> rounding_share(keras.layers.Dense(3)), rounding_share(len)
    (0.0001, 0.0001)
    """
    return max(_SHARE, half_share(model))


def differing_rows(first: np.ndarray, again: np.ndarray, share: float) -> np.ndarray:
    """Returns for which images two runs differ by more than rounding.

    Differences are measured against those between the logits of the same image: neither
    small logits nor a large number added to all of them hide noise.

    Args:
        first: Logits, `(count, classes)`.
        again: Logits of another run for the same images.
        share: What `rounding_share` says about the model.

    Returns:
        Boolean array `(count,)`.

    Example:

    >>> from keras_advdef.evaluation._plan.differing_rows import differing_rows
    >>> first = 1e-6 * np.array([[1.0, 3.0], [1.0, 3.0]])
    >>> differing_rows(first, first + 1e-9 * np.array([[0, 0], [0, 1]]), 1e-4).tolist()
    [False, True]
    """
    # In float64, where differences do not overflow.
    first, again = first.astype(np.float64), again.astype(np.float64)
    counts = np.isfinite(first)
    # Classes are excluded beside others only: logits may all be that low.
    others = counts & (first > MASKED)
    counts = np.where(others.any(axis=1, keepdims=True), others, counts)
    high = np.where(counts, first, -np.inf).max(axis=1)
    low = np.where(counts, first, np.inf).min(axis=1)
    largest = np.abs(np.where(counts, first, 0.0)).max(axis=1)
    # Without finite logits, high is below low.
    allowed = share * np.maximum(high - low, 0.0) + _UNITS * largest
    return ~(differences(first, again) <= allowed)


def differences(first: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Returns the largest difference of a logit between two runs, `(count,)`.

    Args:
        first: Logits, `(count, classes)`.
        again: Logits of another run for the same images.

    Example:

    >>> from keras_advdef.evaluation._plan.differing_rows import differences
    >>> differences(np.array([[1.0, -np.inf]]), np.array([[1.5, -np.inf]])).tolist()
    [0.5]
    """
    same = (first == again) | (np.isnan(first) & np.isnan(again))
    with np.errstate(invalid="ignore"):
        gaps = np.abs(again - first)
    # A number in one run and NaN in the other are no rounding.
    return np.where(same, 0.0, np.where(np.isnan(gaps), np.inf, gaps)).max(axis=1)

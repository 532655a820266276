"""Balls: the norms of an evaluation, with an epsilon each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_advdef.core.errors import checked_choice, invalid
from keras_advdef.core.norms import NORMS
from keras_advdef.core.value_range import (
    ValueRange,
    checked_epsilon,
    small_epsilon_error,
)

_FIRST = NORMS[0]


class Ball(NamedTuple):
    """The images that an attacker may choose from.

    Attributes:
        norm: "linf", "l2" or "l1".
        epsilon: Largest norm of a perturbation, in the units of the value range.
    """

    norm: str
    epsilon: float


def parse_balls(
    owner: str,
    epsilon: Any,
    *,
    norm: str,
    norms: Sequence[str] | None,
    value_range: ValueRange,
    allow_small: bool,
) -> tuple[Ball, ...]:
    """Returns the checked balls, the main one first.

    Args:
        owner: Name of the function that checks.
        epsilon: A number; for several norms, a mapping from each norm to its epsilon,
            or a list in the order of the norms.
        norm: The norm if there is one only.
        norms: All norms, or `None` for `norm` alone.
        value_range: Range of the pixels.
        allow_small: Whether an epsilon below 0.1 % of the range is meant.

    Raises:
        ValueError: If a norm is unknown, or an epsilon invalid or missing; the message
            says how.

    Example:

    >>> from keras_advdef.core.value_range import ValueRange
    >>> from keras_advdef.evaluation._request.balls import parse_balls
    >>> parse_balls("f", {"l2": 0.5, "linf": 0.1}, norm="linf", norms=["linf", "l2"],
    ...             value_range=ValueRange(), allow_small=False)
    (Ball(norm='linf', epsilon=0.1), Ball(norm='l2', epsilon=0.5))
    """
    names = _names(owner, norm, norms)
    each = [epsilon] if norms is None else _each(owner, epsilon, names)

    def checked(name: str, number: Any) -> Ball:
        number = checked_epsilon(owner, number, value_range, norm=name, low_open=True)
        otherwise = "To keep it, pass `allow_small_epsilon=True`."
        error = small_epsilon_error(owner, number, value_range, otherwise=otherwise)
        if error is not None and not allow_small:
            raise error
        return Ball(name, number)

    return tuple(map(checked, names, each))


def _names(owner: str, norm: str, norms: Sequence[str] | None) -> list[str]:
    norm = checked_choice(owner, "norm", norm, NORMS)
    if norms is None:
        return [norm]
    if not isinstance(norms, (list, tuple)) or not norms:
        raise invalid(owner, "norms", "a list of norms", norms)
    names = [checked_choice(owner, "norms", each, NORMS) for each in norms]
    if len({*names}) < len(names):
        raise invalid(owner, "norms", "each named once", norms)
    if norm not in (_FIRST, names[0]):
        advice = "Pass `norms` alone; its first is the main one."
        raise invalid(
            owner, "norm", f"left out beside `norms`={norms}", norm, advice=advice
        )
    return names


def _each(owner: str, epsilon: Any, names: list[str]) -> list[Any]:
    """Returns the epsilons in the order of the norms."""
    if isinstance(epsilon, Mapping):
        if {*epsilon} == {*names}:
            return [epsilon[name] for name in names]
    elif isinstance(epsilon, (list, tuple, np.ndarray)) and len(epsilon) == len(names):
        return list(epsilon)
    example = ", ".join(f'"{name}": ...' for name in names)
    raise invalid(
        owner,
        "epsilon",
        f"one number for each of the norms {', '.join(names)}",
        epsilon,
        advice=f"Pass epsilon={{{example}}}.",
    )

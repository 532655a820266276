"""Checks that `report.json` holds what tables, plots and comparisons need."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from keras_advdef.core.norms import NORMS
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS

# Limits that matplotlib's axes can handle.
_LARGEST = 1e15
_LONGEST = 10**6
# As many corruptions, and severities of each, fit into a picture.
_MOST = 15


class _Form:
    """Base of the forms that a value may be required to have."""

    def check(self, value: Any, where: str) -> None:
        """Raises a `ValueError` if the value at a place does not have this form."""
        raise NotImplementedError


class _Kind(_Form):
    """A plain value: the name of its kind, and a test for it."""

    def __init__(self, name: str, fits: Callable[[Any], bool]) -> None:
        self._name = name
        self._fits = fits

    def check(self, value: Any, where: str) -> None:
        if not self._fits(value):
            raise ValueError(f"{where} is not {self._name}")


class _OrNone(_Form):
    """A value that may be null."""

    def __init__(self, form: _Form) -> None:
        self._form = form

    def check(self, value: Any, where: str) -> None:
        if value is not None:
            self._form.check(value, where)


class _List(_Form):
    """A list of values of one form, with bounds on its length."""

    def __init__(self, form: _Form, *, least: int = 0, most: int = _LONGEST) -> None:
        self._form = form
        self._least = least
        self._most = most

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise ValueError(f"{where} is not a list")
        if not self._least <= len(value) <= self._most:
            raise ValueError(f"{where} is a list of {len(value)}")
        for index, each in enumerate(value):
            self._form.check(each, f"{where}[{index}]")


class _Object(_Form):
    """An object with these keys; further keys are allowed."""

    def __init__(
        self,
        forms: Mapping[str, _Form],
        if_there: Mapping[str, _Form] | None = None,
    ) -> None:
        self._forms = forms
        self._if_there = if_there or {}

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is not an object")
        for name, form in self._forms.items():
            if name not in value:
                raise ValueError(f"{where} lacks {name}")
            form.check(value[name], name)
        for name in self._if_there.keys() & value.keys():
            self._if_there[name].check(value[name], name)


def _number(low: float, high: float) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and low <= value <= high

    return fits


def _pair(form: _Form) -> _Form:
    return _List(form, least=2, most=2)


_TEXT = _Kind("text", lambda value: isinstance(value, str))
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_WHOLE = _Kind("a whole number", lambda value: type(value) is int)
_COUNT = _Kind(
    "a number of images",
    lambda value: type(value) is int and 0 < value <= _LARGEST,
)
_SHARE = _Kind("a number in [0, 1]", _number(0.0, 1.0))
_CHANGE = _Kind("a number in [-1, 1]", _number(-1.0, 1.0))
_AMOUNT = _Kind(f"a number in [0, {_LARGEST:g}]", _number(0.0, _LARGEST))
_PIXEL = _Kind("a number", _number(-_LARGEST, _LARGEST))
_KIND = _Kind(
    "a corruption", lambda value: isinstance(value, str) and value in CORRUPTIONS
)
_NORM = _Kind("a norm", lambda value: isinstance(value, str) and value in NORMS)

_ACCURACY = {
    "accuracy": _SHARE,
    "interval": _pair(_SHARE),
    "count": _WHOLE,
}
_ESTIMATE = _Object(_ACCURACY)
_ATTACKED = _Object({**_ACCURACY, "attacks": _List(_TEXT)})
_DRAWN = {
    "draws": _WHOLE,
    "evaluations": _List(_SHARE),
    **dict.fromkeys(("mean", "worst", "majority"), _ESTIMATE),
}
_WORST = _Object(
    {**_ACCURACY, "attacks": _List(_TEXT)}, if_there={"judgements": _Object(_DRAWN)}
)
_POINT = _Object({"epsilon": _AMOUNT, **_ACCURACY})
_RADIUS = _Object({"radius": _AMOUNT, **_ACCURACY})
_CERTIFIED = {"norm": _NORM, "method": _TEXT, "curve": _List(_RADIUS, least=1)}
_WITHIN = {"norm": _NORM, "method": _TEXT, "epsilon": _AMOUNT, **_ACCURACY}
_COUNTED = {"accuracy": _SHARE, "count": _COUNT}
_SEVERITY = _Object({"severity": _WHOLE, **_COUNTED})
_CORRUPTION = {"name": _KIND, "severities": _List(_SEVERITY, least=1, most=_MOST)}
_CORRUPTED = {
    "clean": _Object(_COUNTED),
    "corruptions": _List(_Object(_CORRUPTION), least=1, most=_MOST),
    "seed": _WHOLE,
}
_MAY_BE_CORRUPTED = {"corruptions": _OrNone(_Object(_CORRUPTED))}
_ADDED = {"layers_added": _OrNone(_WHOLE), "parameters_added": _OrNone(_WHOLE)}
_COST = _Object({"difference": _CHANGE, "interval": _pair(_CHANGE)})
_NEAREST = {"median": _OrNone(_AMOUNT), "count": _WHOLE, "attack": _TEXT}
_DEFENCE_COSTS = {
    "architecture": _Object(_ADDED),
    "clean_accuracy_change": _OrNone(_COST),
    "small_epsilons": _List(_POINT),
    "smallest_perturbation": _OrNone(_Object(_NEAREST)),
}
_CHECK = {"name": _TEXT, "passed": _OrNone(_FLAG), "detail": _TEXT}
_CLASS = {"class": _WHOLE, "count": _WHOLE, "clean": _ESTIMATE, "adaptive": _ESTIMATE}
_ATTACK = _Object(
    {"name": _TEXT, "role": _TEXT, "images": _WHOLE, "accuracy_after": _SHARE},
    if_there={"key": _TEXT},
)
_SKIPPED = {"attack": _TEXT, "reason": _TEXT}
_BALL = {
    "norm": _NORM,
    "epsilon": _AMOUNT,
    "clean": _ESTIMATE,
    "adaptive": _WORST,
    "headline": _TEXT,
    "masking_suspected": _FLAG,
    "failed_checks": _List(_TEXT),
    "attacks": _List(_ATTACK),
}
_UNION = {**_ACCURACY, "finding": _TEXT}
_SEVERAL = {"norms": _List(_Object(_BALL), least=2), "union": _Object(_UNION)}
_REFERENCE = {
    "clean": _ATTACKED,
    "adaptive": _ATTACKED,
    "curve": _List(_POINT, least=1),
}
_MODEL = _Object({"name": _TEXT, "parameters": _OrNone(_WHOLE)})
_RUN = {
    "command": _TEXT,
    "started": _TEXT,
    "seconds": _AMOUNT,
    "traces": _WHOLE,
    "inference": _Object({}, if_there={"inference_time_ratio": _AMOUNT}),
    "model": _MODEL,
    "reference": _OrNone(_MODEL),
    "data": _Object({"name": _TEXT, "shape": _List(_WHOLE, most=3)}),
}
_REPORT = _Object(
    {
        "headline": _TEXT,
        "masking_suspected": _FLAG,
        "clean": _ATTACKED,
        "naive": _ATTACKED,
        "adaptive": _WORST,
        "checks": _List(_Object(_CHECK)),
        "curve": _List(_POINT, least=1),
        "per_class": _List(_Object(_CLASS)),
        "attacks": _List(_ATTACK),
        "skipped": _List(_Object(_SKIPPED)),
        "defences": _List(_TEXT),
        "duties": _Object(_DEFENCE_COSTS),
        "images": _Object({"evaluated": _WHOLE, "given": _OrNone(_WHOLE)}),
        "seed": _WHOLE,
        "epsilon": _AMOUNT,
        "norm": _NORM,
        "value_range": _pair(_PIXEL),
        "budget": _TEXT,
        "versions": _Object({}),
        "run": _Object({}, if_there=_RUN),
    },
    if_there={
        "certified": _OrNone(_Object(_CERTIFIED)),
        "certified_accuracy": _OrNone(_Object(_WITHIN)),
        **_MAY_BE_CORRUPTED,
        "reference": _OrNone(_Object(_REFERENCE, if_there=_MAY_BE_CORRUPTED)),
        "class_names": _OrNone(_List(_TEXT)),
        "is_robust_accuracy": _FLAG,
    },
)


def check_report(data: Any) -> None:
    """Raises if JSON values are not a report.

    Args:
        data: The values read from the file.

    Raises:
        ValueError: If something is missing or has the wrong form; the message says
            what.

    Example:

    >>> from keras_advdef.evaluation._report.report_form import check_report
    >>> check_report({"headline": 3})
    Traceback (most recent call last):
    ...
    ValueError: headline is not text
    """
    _REPORT.check(data, "it")
    if _SEVERAL.keys() & data.keys():
        _Object(_SEVERAL).check(data, "it")

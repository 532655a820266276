"""The result of a report in plain sentences, for readers from outside the field."""

from typing import Any, NamedTuple

from keras_advdef.core.text import printable
from keras_advdef.evaluation._report.epsilon_words import attacker_words

_CHANCE, _SETTLED = "better_than_chance", "settled"
_CLAIM = "Robust accuracy"


class PlainWords(NamedTuple):
    """Two sentences, and one about the reference.

    Args:
        result: How many images the model gets right, without and with an attacker.
        beside: The same for the reference; empty if there is none.
        trust: Whether the numbers of the model can be believed.
        is_doubtful: Whether they cannot.
    """

    result: str
    beside: str
    trust: str
    is_doubtful: bool

    @property
    def sentences(self) -> tuple[str, ...]:
        """The sentences in their order."""
        return self.result, self.beside, self.trust


def plain_words(data: dict[str, Any]) -> PlainWords:
    """Returns the result of a report in plain sentences.

    Args:
        data: The contents of `report.json`.
    """
    failed = [check for check in data["checks"] if check["passed"] is False]
    result, beside = printable(_result(data)), printable(_beside(data))
    trust = printable(_trust(data, failed))
    return PlainWords(result, beside, trust, is_doubtful=bool(failed))


def right_of(estimate: dict[str, Any]) -> int:
    """Returns the number of images behind an accuracy, rounded for random models.

    Args:
        estimate: A dictionary with the keys `accuracy` and `count`.

    Example:

    >>> from keras_advdef.evaluation._report.plain_words import right_of
    >>> right_of({"accuracy": 0.3, "count": 10})
    3
    """
    return round(estimate["accuracy"] * estimate["count"])


def _result(data: dict[str, Any]) -> str:
    clean, adaptive = data["clean"], data["adaptive"]
    attacker = attacker_words(data["epsilon"], data["norm"], data["value_range"])
    average = " on average" if "judgements" in adaptive else ""
    return (
        f"Of {clean['count']} images, the model gets {right_of(clean)} right"
        f"{average}; {right_of(adaptive)} of them survive an attacker {attacker}."
        f"{_proved(data)}"
    )


def _proved(data: dict[str, Any]) -> str:
    within = data.get("certified_accuracy")
    if within is None:
        return ""
    return f" It is proved that {right_of(within)} of them survive any such attack."


def _beside(data: dict[str, Any]) -> str:
    other = data.get("reference")
    if other is None:
        return ""
    clean, attacked = right_of(other["clean"]), right_of(other["adaptive"])
    return (
        f"The reference, without the defence, gets {clean} right; {attacked} of them "
        "survive such an attacker."
    )


def _trust(data: dict[str, Any], failed: list[dict[str, Any]]) -> str:
    ran = sum(check["passed"] is not None for check in data["checks"])
    if any(check["name"] == _CHANCE for check in failed):
        return (
            "It is hardly better than guessing, so its robustness means nothing: look "
            "at the labels, the value range and the training first."
        )
    if failed:
        return _doubt(data, failed, ran)
    found = f"None of the {ran} checks that ran found a fault in the attacks"
    if data.get("is_robust_accuracy", data["headline"].startswith(_CLAIM)):
        return f"{found}, and every attack that is due for such a model ran."
    if data["budget"] == "quick":
        return f"{found}, but this was a quick look: more attacks may leave fewer."
    missing = len(data["checks"]) - ran
    without = f"{missing} more could not run, and " if missing else ""
    return f"{found}, but {without}further attacks may leave fewer images."


def _doubt(data: dict[str, Any], failed: list[dict[str, Any]], ran: int) -> str:
    """Says that attacks were misled, and whether others then ended that."""
    names = [check["name"] for check in failed if check["name"] != _SETTLED]
    said = ", ".join(names).replace("_", " ")
    found = f"{len(failed)} of {ran} checks found that attacks may fail on this model"
    found = f"{found} ({said})" if said else found
    settled = [check for check in data["checks"] if check["name"] == _SETTLED]
    if settled and settled[0]["passed"]:
        return (
            f"Take the second number as an upper bound: {found}. Attacks that need no "
            "gradient followed, until they broke hardly any further image."
        )
    if settled and settled[0]["passed"] is False:
        return (
            f"Do not trust the second number: {found}, and with more attacks it still "
            "falls."
        )
    return (
        f"Do not trust the second number: {found}, so a better attack may leave fewer "
        "images."
    )

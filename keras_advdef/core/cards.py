"""DefenceCard: what a defence claims, what broke it, and how it must be attacked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

_Defence = TypeVar("_Defence", bound=type)

_CARDS: dict[type, "DefenceCard"] = {}


@dataclass(frozen=True, kw_only=True)
class Break:
    """One published attack on a defence.

    Args:
        attack: How it was attacked.
        result: What was left of the claim, with data set and budget.
        source: Who showed it, and where.
    """

    attack: str
    result: str
    source: str


@dataclass(frozen=True, kw_only=True)
class DefenceCard:
    """The facts about a defence, written once and drawn from everywhere.

    Args:
        summary: What it does, in one sentence.
        category: The survey's section.
        paper: Authors, title, venue and year.
        claim: What its authors reported.
        standing: "standing", "weakened" or "broken".
        breaks: What is known to break it.
        eot_samples: Draws over which an attack must average gradients; 1 if the
            defence is deterministic.
        gradient: "exact", or "straight-through" for the identity (BPDA).
        attacks: Names of the attacks that must have run before a number may be called
            robust accuracy.
        training_cost: What training costs beside plain training.
        inference_cost: What a prediction costs beside the bare model's.

    Example:

    >>> card = keras_advdef.core.cards.card_of(keras_advdef.layers.RandomResizePad)
    >>> card.category, card.standing
    ('randomization', 'broken')
    """

    summary: str
    category: Literal[
        "robust training", "input transformation", "randomization", "ensemble"
    ]
    paper: str
    claim: str
    standing: Literal["standing", "weakened", "broken"]
    breaks: tuple[Break, ...] = ()
    eot_samples: int = 1
    gradient: Literal["exact", "straight-through"] = "exact"
    attacks: tuple[str, ...]
    training_cost: str
    inference_cost: str


def defence(card: DefenceCard) -> Callable[[_Defence], _Defence]:
    """Puts a card on a class and its facts at the end of the class's docstring.

    Args:
        card: The facts.

    Returns:
        The class decorator.
    """

    def put(cls: _Defence) -> _Defence:
        _CARDS[cls] = card
        lines = ["", f"    Standing: {card.standing}. {card.claim}"]
        lines += [f"    - {b.attack}: {b.result} ({b.source})." for b in card.breaks]
        lines += ["", "    Reference:", f"        {card.paper}.", "    "]
        cls.__doc__ = (cls.__doc__ or "").rstrip() + "\n" + "\n".join(lines)
        return cls

    return put


def card_of(defended: Any) -> DefenceCard | None:
    """Returns the card of a class or of an object's class.

    Args:
        defended: A class, layer, model or objective.

    Returns:
        Its card, or `None` if it is no defence of this package.

    Example:

    >>> keras_advdef.core.cards.card_of(keras.layers.Dense) is None
    True
    """
    cls = defended if isinstance(defended, type) else type(defended)
    return _CARDS.get(cls)


def all_cards() -> dict[str, DefenceCard]:
    """Returns the cards of all defences by class name, in alphabetical order.

    Returns:
        A new dictionary.

    Example:

    >>> "RandomResizePad" in keras_advdef.core.cards.all_cards()
    True
    """
    return {cls.__name__: _CARDS[cls] for cls in sorted(_CARDS, key=_name)}


def _name(cls: type) -> str:
    return cls.__name__

"""DefenceCard: what a defence claims, what broke it, and how it must be attacked."""

import dataclasses
import json
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_advdef.core.errors import invalid
from keras_advdef.core.untrusted import (
    check_memory,
    open_regular_file,
    read_errors_as,
    read_json,
)

_Defence = TypeVar("_Defence", bound=type)

_CARDS: dict[type, "DefenceCard"] = {}


@dataclass(frozen=True, kw_only=True)
class Break:
    """One published attack on a defence.

    Args:
        attack: How it was attacked.
        result: What was left of the claim, with data set and budget.
        source: Who showed it, and where.

    Example:

    >>> keras_advdef.core.Break(
    ...     attack="BPDA", result="0 % left", source="Athalye et al. 2018").result
    '0 % left'
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

    Example:

    >>> "Standing: broken." in keras_advdef.layers.JPEGCompression.__doc__
    True
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


_PREFIX = "keras_advdef_card_"
_MOST_DRAWS = 1000
# The facts of a card that are one of a few words.
_CHOSEN = ("category", "standing", "gradient")


class CardAsset(tf.saved_model.experimental.TrackableResource):
    """Takes a defence's card into every SavedModel that its owner is exported to.

    `model.export` looks for resources inside a model; the assets they hold come along.
    Whoever loads the SavedModel, without this package, can still read how the model
    must be attacked. Files exist only once an export asks for them.

    Args:
        defended: The layer, model or objective.
        card: Its card.

    Example:

    >>> layer = keras_advdef.layers.BitDepthReduction(3)
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), layer])
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> model.export(folder, verbose=False)
    >>> list(keras_advdef.core.cards.cards_in(folder))
    ['BitDepthReduction']
    """

    def __init__(self, defended: Any, card: DefenceCard) -> None:
        super().__init__()
        self._name = type(defended).__name__
        self._card = card

    def _create_resource(self) -> tf.Tensor:
        # The contents are of no use: TensorFlow only asks for some resource handle.
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def _trackable_children(
        self, save_type: str = "checkpoint", **kwargs: Any
    ) -> dict[str, Any]:
        children = super()._trackable_children(save_type, **kwargs)
        if save_type == "savedmodel":
            children["card"] = self._asset()
        return children

    def _asset(self) -> tf.saved_model.Asset:
        # One export asks several times and must get the same file.
        if not hasattr(self, "_written"):
            folder = Path(tempfile.mkdtemp(prefix="keras_advdef-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = folder / f"{_PREFIX}{self._name}.json"
            text = json.dumps(dataclasses.asdict(self._card), indent=2)
            path.write_text(text, encoding="utf-8")
            self._written = tf.saved_model.Asset(str(path))
        return self._written


def cards_in(folder: str | Path) -> dict[str, DefenceCard]:
    """Returns the cards in the assets of a SavedModel, by class name.

    Args:
        folder: Where the SavedModel lies.

    Returns:
        A new dictionary, empty if it holds no defence of this package.

    Raises:
        ValueError: If the SavedModel or a card in it is damaged.

    Example:

    >>> import tempfile
    >>> keras_advdef.core.cards.cards_in(tempfile.mkdtemp())
    {}
    """
    cards = {}
    for file in _asset_files(Path(folder)):
        # A name with folders in it was not written by this package.
        if file.startswith(_PREFIX) and Path(file).name == file:
            name = Path(file).stem.removeprefix(_PREFIX).partition("_")[0]
            cards[name] = _read_card(Path(folder) / "assets" / file, name)
    return cards


def _read_card(path: Path, name: str) -> DefenceCard:
    def refuse(advice: str) -> ValueError:
        rule = "a SavedModel with whole cards of its defences"
        advice += " Export the model again."
        return invalid("cards_in", "folder", rule, str(path), advice=advice)

    values = read_json(path, refuse)
    with read_errors_as(refuse, "A card in it is damaged ({})."):
        values["breaks"] = tuple(Break(**each) for each in values["breaks"])
        values["attacks"] = tuple(values["attacks"])
        card = DefenceCard(**values)
        if not name.isidentifier():
            raise ValueError("it is of no class")
        _check_card(card)
    return card


def _check_card(card: DefenceCard) -> None:
    """Raises where a file gave a card what no card of this package has."""
    texts = [card.summary, card.category, card.paper, card.claim, card.standing]
    texts += [card.gradient, card.training_cost, card.inference_cost, *card.attacks]
    texts += [text for each in card.breaks for text in dataclasses.astuple(each)]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("one of its facts is no text")
    for name in _CHOSEN:
        if getattr(card, name) not in get_args(get_type_hints(DefenceCard)[name]):
            raise ValueError(f"its {name} is unknown")
    if type(card.eot_samples) is not int or not 1 <= card.eot_samples <= _MOST_DRAWS:
        raise ValueError(f"its draws of EOT are no integer in [1, {_MOST_DRAWS}]")


def _asset_files(folder: Path) -> list[str]:
    """The assets of this SavedModel, not those an earlier one left in the folder."""

    def refuse(advice: str) -> ValueError:
        rule = "a SavedModel that can be read"
        return invalid("cards_in", "folder", rule, str(folder), advice=advice)

    graph = folder / "saved_model.pb"
    if not graph.exists():
        return []
    with open_regular_file(graph, refuse) as file:
        check_memory(graph.stat().st_size, graph.name, refuse)
        with read_errors_as(
            refuse, f"{graph.name} is damaged ({{}}); export the model again."
        ):
            saved = saved_model_pb2.SavedModel.FromString(file.read())
    return sorted(
        {asset.filename for meta in saved.meta_graphs for asset in meta.asset_file_def}
    )

"""Defence cards: what a defence claims, what broke it, how it must be attacked."""

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
_PREFIX = "keras_advdef_card_"
_MOST_DRAWS = 1000
# The fields that take one of a few words.
_CHOSEN = ("category", "standing", "gradient")


@dataclass(frozen=True, kw_only=True)
class Break:
    """One published attack on a defence.

    Args:
        attack: The attack.
        result: What remained of the claim, with data set and budget.
        source: Authors, venue and year.

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
    """The facts about a defence.

    Docstrings, tables, the plan of an evaluation and its verdict all read them from
    here; see `defence`.

    Args:
        summary: What the defence does, in one sentence.
        category: "robust training", "input transformation", "randomization" or
            "ensemble".
        paper: Authors, title, venue and year.
        claim: The result its authors reported, with data set and threat model.
        standing: "standing", "weakened" or "broken".
        breaks: Published attacks that broke it.
        eot_samples: Draws over which an attack must average gradients (EOT), an integer
            in `[1, 1000]`; 1 for a deterministic defence.
        gradient: "exact", or "straight-through" if the backward pass is the identity
            (BPDA).
        attacks: Names of the attacks that must run before an accuracy may be called
            robust accuracy.
        training_cost: Cost of training, relative to plain training.
        inference_cost: Cost of a prediction, relative to the bare model.

    Example:

    >>> card = keras_advdef.core.DefenceCard(
    ...     summary="Blurs the image.", category="input transformation",
    ...     paper="A. Author: A Title, ICML 2018", claim="70 % on CIFAR-10 at 8/255",
    ...     standing="broken", attacks=("PGD",), training_cost="none",
    ...     inference_cost="one convolution")
    >>> card.gradient, card.eot_samples
    ('exact', 1)
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
    """Returns the class decorator that puts a card on a defence.

    The card's standing, breaks and paper are appended to the docstring of the class.
    Layers with a card also carry it into every SavedModel. Write the decorator first,
    above the one that registers the class with Keras:

    ```python
    @defence(DefenceCard(summary="...", ...))
    @keras.saving.register_keras_serializable(package="my_package")
    class MyDefence(RandomLayer):
        ...
    ```

    Args:
        card: The facts.

    Returns:
        The decorator. It returns the class itself.

    Example:

    >>> card = keras_advdef.core.cards.card_of(keras_advdef.layers.JPEGCompression)
    >>> card.standing
    'broken'
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


def card_of(defended: object) -> DefenceCard | None:
    """Returns the card of a class, or of the class of an object.

    Args:
        defended: A class, layer, model or objective.

    Returns:
        The card, or `None` if there is none.

    Example:

    >>> keras_advdef.core.cards.card_of(keras.layers.Dense) is None
    True
    """
    cls = defended if isinstance(defended, type) else type(defended)
    return _CARDS.get(cls)


def all_cards() -> dict[str, DefenceCard]:
    """Returns the cards of all defences by class name, in alphabetical order.

    Example:

    >>> "RandomResizePad" in keras_advdef.core.cards.all_cards()
    True
    """
    return {cls.__name__: _CARDS[cls] for cls in sorted(_CARDS, key=_name)}


def _name(cls: type) -> str:
    return cls.__name__


class CardAsset(tf.saved_model.experimental.TrackableResource):
    """Carries a defence's card into every SavedModel that contains the defence.

    `model.export` collects the resources inside a model, with their assets. So anyone
    who loads the SavedModel, even without this package, can read how the model must be
    attacked. The file is written only when an export asks for it.

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

    def __init__(self, defended: object, card: DefenceCard) -> None:
        super().__init__()
        self._name = type(defended).__name__
        self._card = card

    def _create_resource(self) -> tf.Tensor:
        # TensorFlow needs some resource handle; the table stays empty.
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

    def _trackable_children(
        self, save_type: str = "checkpoint", **kwargs: Any
    ) -> dict[str, Any]:
        children = super()._trackable_children(save_type, **kwargs)
        if save_type == "savedmodel":
            children["card"] = self._asset()
        return children

    def _asset(self) -> tf.saved_model.Asset:
        # One export asks several times and must get the same file each time.
        if not hasattr(self, "_written"):
            folder = Path(tempfile.mkdtemp(prefix="keras_advdef-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = folder / f"{_PREFIX}{self._name}.json"
            text = json.dumps(dataclasses.asdict(self._card), indent=2)
            path.write_text(text, encoding="utf-8")
            self._written = tf.saved_model.Asset(str(path))
        return self._written


def cards_in(folder: str | Path) -> dict[str, DefenceCard]:
    """Returns the cards among the assets of a SavedModel, by class name.

    Args:
        folder: Folder of the SavedModel.

    Returns:
        A dictionary, empty if the model has no defence of this package.

    Raises:
        ValueError: If the SavedModel or one of its cards is damaged.

    Example:

    >>> import tempfile
    >>> keras_advdef.core.cards.cards_in(tempfile.mkdtemp())
    {}
    """
    cards = {}
    for file in _asset_files(Path(folder)):
        # This package writes no names with folders in them.
        if file.startswith(_PREFIX) and Path(file).name == file:
            name = Path(file).stem.removeprefix(_PREFIX).partition("_")[0]
            cards[name] = _read_card(Path(folder) / "assets" / file, name)
    return cards


def _read_card(path: Path, name: str) -> DefenceCard:
    def refuse(advice: str) -> ValueError:
        rule = "a SavedModel with undamaged cards of its defences"
        advice += " Export the model again."
        return invalid("cards_in", "folder", rule, str(path), advice=advice)

    values = read_json(path, refuse)
    with read_errors_as(refuse, "A card in it is damaged ({})."):
        values["breaks"] = tuple(Break(**each) for each in values["breaks"])
        values["attacks"] = tuple(values["attacks"])
        card = DefenceCard(**values)
        if not name.isidentifier():
            raise ValueError("it does not name a class")
        _check_card(card)
    return card


def _check_card(card: DefenceCard) -> None:
    """Raises if a card from a file has values that no card of this package has."""
    texts = [card.summary, card.category, card.paper, card.claim, card.standing]
    texts += [card.gradient, card.training_cost, card.inference_cost, *card.attacks]
    texts += [text for each in card.breaks for text in dataclasses.astuple(each)]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("one of its facts is not a text")
    for name in _CHOSEN:
        if getattr(card, name) not in get_args(get_type_hints(DefenceCard)[name]):
            raise ValueError(f"its {name} is unknown")
    if type(card.eot_samples) is not int or not 1 <= card.eot_samples <= _MOST_DRAWS:
        raise ValueError(f"its EOT draws are not an integer in [1, {_MOST_DRAWS}]")


def _asset_files(folder: Path) -> list[str]:
    """Lists the assets of this SavedModel, without leftovers of an earlier one."""

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

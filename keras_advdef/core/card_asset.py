"""Writes the cards of a model's defences into the assets of its SavedModel."""

import dataclasses
import json
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_advdef.core.cards import Break, DefenceCard
from keras_advdef.core.errors import invalid
from keras_advdef.core.untrusted import check_memory, opened, read_json, reading

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
    >>> list(keras_advdef.core.card_asset.cards_in(folder))
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
    >>> keras_advdef.core.card_asset.cards_in(tempfile.mkdtemp())
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
    with reading(refuse, "A card in it is damaged ({})."):
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
    with opened(graph, refuse) as file:
        check_memory(graph.stat().st_size, graph.name, refuse)
        with reading(
            refuse, f"{graph.name} is damaged ({{}}); export the model again."
        ):
            saved = saved_model_pb2.SavedModel.FromString(file.read())
    return sorted(
        {asset.filename for meta in saved.meta_graphs for asset in meta.asset_file_def}
    )

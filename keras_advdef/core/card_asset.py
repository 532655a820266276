"""Writes the cards of a model's defences into the assets of its SavedModel."""

import dataclasses
import json
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_advdef.core.cards import Break, DefenceCard

_PREFIX = "keras_advdef_card_"


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

    Example:

    >>> import tempfile
    >>> keras_advdef.core.card_asset.cards_in(tempfile.mkdtemp())
    {}
    """
    cards = {}
    for file in _asset_files(Path(folder)):
        if file.startswith(_PREFIX):
            text = (Path(folder) / "assets" / file).read_text(encoding="utf-8")
            values = json.loads(text)
            values["breaks"] = tuple(Break(**each) for each in values["breaks"])
            values["attacks"] = tuple(values["attacks"])
            name = Path(file).stem.removeprefix(_PREFIX).partition("_")[0]
            cards[name] = DefenceCard(**values)
    return cards


def _asset_files(folder: Path) -> list[str]:
    """The assets of this SavedModel, not those an earlier one left in the folder."""
    graph = folder / "saved_model.pb"
    if not graph.is_file():
        return []
    saved = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    return sorted(
        {asset.filename for meta in saved.meta_graphs for asset in meta.asset_file_def}
    )

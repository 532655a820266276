"""EvaluatedModel: the evaluated model with the cards of its defences."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_advdef.core.cards import DefenceCard, card_of
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.read_keras import read_keras
from keras_advdef.core.untrusted import read_errors_as
from keras_advdef.evaluation._request.served_model import ServedModel
from keras_advdef.training.training_model import TrainingModel

_OWNER = "evaluate_robustness"
# Only rows and columns.
_MAP_RANK = 2
# These hold no defences that a pass could bypass.
_WHOLE = ("robust training", "ensemble")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EvaluatedModel:
    """The model in the form that attacks take, and the cards of its defences.

    Attributes:
        model: A Keras model or a function from images to its outputs.
        cards: By class name, alphabetical.
        can_bypass: Whether a pass can bypass the defences inside.
        name: What readers call the model: the name of its file, or its own.
    """

    model: Any
    cards: dict[str, DefenceCard]
    can_bypass: bool
    name: str = ""

    @classmethod
    def of(cls, model: Any, *, owner: str = _OWNER) -> "EvaluatedModel":
        """Returns the record of what a user evaluates.

        Args:
            model: A Keras model, a training model of this package, the path of a
                `.keras` file or of a SavedModel, or any function from images to logits.
            owner: Name of the function that takes the model.

        Raises:
            ValueError: If there is no model at a path, or if the model has no layers
                or several inputs.
        """
        if isinstance(model, (str, Path)):
            loaded = cls.of(load_model(model), owner=owner)
            return dataclasses.replace(loaded, name=Path(model).absolute().name)
        if isinstance(model, ServedModel):
            return cls(model=model, cards=model.cards, can_bypass=False)
        cards = {}
        if isinstance(model, keras.Model):
            _check_structure(owner, model)
        if isinstance(model, TrainingModel):
            cards, model = _cards(model.defences()), model.classifier
        layers = flat_layers(model) if isinstance(model, keras.layers.Layer) else []
        inside = _cards(layers)
        aside = any(card.category not in _WHOLE for card in inside.values())
        both = {**cards, **inside}
        return cls(
            model=model,
            cards={name: both[name] for name in sorted(both)},
            can_bypass=aside,
            name=str(
                getattr(model, "name", "")
                or getattr(model, "__name__", type(model).__name__)
            ),
        )

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """Shape of one image as far as the model tells it; else empty."""
        if isinstance(self.model, ServedModel):
            return self.model.image_shape
        inputs = getattr(self.model, "inputs", None) or []
        shapes = [tuple(tensor.shape[1:]) for tensor in inputs]
        if len(shapes) != 1:
            return ()
        # A model of images without channels is still given an axis of channels.
        return (*shapes[0], 1) if len(shapes[0]) == _MAP_RANK else shapes[0]

    @property
    def whole_input(self) -> str:
        """The integer dtype of the model's images, "" for floats."""
        if isinstance(self.model, ServedModel):
            dtype = self.model.image_dtype
        else:
            inputs = getattr(self.model, "inputs", None) or []
            dtype = inputs[0].dtype if len(inputs) == 1 else "float32"
        return "" if keras.backend.is_float_dtype(dtype) else dtype

    @property
    def fingerprint(self) -> str:
        """A digest of config and weights; for a plain function, of its name."""
        digest = hashlib.sha256()
        if isinstance(self.model, keras.Model):
            digest.update(_configuration(self.model))
            weights = self.model.weights
        elif isinstance(self.model, ServedModel):
            digest.update((self.model.folder / "saved_model.pb").read_bytes())
            weights = self.model.weights()
        else:
            digest.update(getattr(self.model, "__qualname__", "function").encode())
            weights = []
        for weight in weights:
            # The state of a random layer is not part of the model's identity.
            if "random_state" not in weight.name and "seed_gen" not in weight.name:
                digest.update(np.ascontiguousarray(np.array(weight)).tobytes())
        return digest.hexdigest()


def _check_structure(owner: str, model: keras.Model) -> None:
    """Raises if a model cannot be an image classifier."""
    inputs = len(getattr(model, "inputs", None) or [None])
    empty = isinstance(model, keras.Sequential) and not model.layers
    if empty or inputs != 1:
        rule = "a classifier with one image input"
        advice = "It has no layers." if empty else f"It has {inputs} inputs."
        raise invalid(owner, "model", rule, model.name, advice=advice)


def _cards(defended: Iterable[object]) -> dict[str, DefenceCard]:
    found = {type(each).__name__: card_of(each) for each in defended}
    return {name: card for name, card in found.items() if card is not None}


def _configuration(model: keras.Model) -> bytes:
    try:
        return json.dumps(model.get_config(), sort_keys=True, default=str).encode()
    except NotImplementedError:  # a subclass without `get_config`
        return type(model).__qualname__.encode()


def load_model(path: str | Path) -> Any:
    """Loads the model at a path.

    A SavedModel is a program: load only those that you trust. Files are read in the
    `safe_mode` of Keras, which refuses layers that carry Python code.

    Args:
        path: A `.keras` or `.h5` file of Keras, or the folder of a SavedModel.

    Returns:
        A `keras.Model` or a `ServedModel`.

    Raises:
        ValueError: If there is nothing that can be loaded.

    Example:

    >>> from keras_advdef.evaluation._request.evaluated_model import load_model
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/model.keras"
    >>> keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(path)
    >>> load_model(path).output_shape
    (None, 3)
    """

    def refuse(advice: str) -> ValueError:
        rule = "a .keras or .h5 file, or the folder of a SavedModel"
        return invalid("load_model", "path", rule, str(path), advice=advice)

    with read_errors_as(refuse, "It cannot be opened: {}."):
        is_served = (Path(path) / "saved_model.pb").exists()
        is_file = Path(path).exists() and not Path(path).is_dir()
    if is_served:
        return ServedModel(path)
    if not is_file:
        raise refuse("There is no such file or folder; check the path.")
    model = read_keras(Path(path), refuse)
    if not isinstance(model, keras.Model):
        raise refuse(f"It holds a {type(model).__name__}, which is not a model.")
    return model

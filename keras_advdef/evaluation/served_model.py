"""ServedModel: a SavedModel as a function from images to what it returns."""

import warnings
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_advdef.core.card_asset import cards_in
from keras_advdef.core.errors import invalid
from keras_advdef.core.fresh_state import own_state_after_fork
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import scope_key
from keras_advdef.core.untrusted import reading

_SIGNATURE = "serving_default"
_STATE = "random_state"
# What Keras's own random layers draw from, augmentation and dropout.
_KERAS_STATE = "seed_generator_state"
_RULE = "a SavedModel with one image input and one output"


class ServedModel:
    """Calls the serving signature of a SavedModel.

    Gradients pass where TensorFlow kept those of the operations. Inside a
    `draw_scope` the random defences of this package draw from the scope; other
    randomness draws as it likes. Where that is augmentation, which was to act in
    training only, a warning says so.

    Args:
        folder: Where the SavedModel lies.

    Raises:
        ValueError: If there is none, or it has no such signature.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> model.export(folder, verbose=False)
    >>> from keras_advdef.evaluation.served_model import ServedModel
    >>> ServedModel(folder)(tf.zeros((3, 2, 2, 1))).shape
    TensorShape([3, 4])
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.cards = cards_in(folder)
        with reading(self._refusal, "TensorFlow says: {}."):
            self._loaded = tf.saved_model.load(str(folder))
            signatures = dict(self._loaded.signatures)
        if _SIGNATURE not in signatures:
            held = ", ".join(signatures) or "none"
            advice = f"Its signatures: {held}. Write it with `model.export`."
            raise self._refusal(advice)
        self._function = signatures[_SIGNATURE]
        inputs = self._function.structured_input_signature[1]
        outputs = self._function.structured_outputs
        if len(inputs) != 1 or len(outputs) != 1:
            advice = f"It has {len(inputs)} inputs and {len(outputs)} outputs."
            raise self._refusal(advice)
        ((self._input, spec),) = inputs.items()
        if not (spec.dtype.is_floating or spec.dtype.is_integer):
            raise self._refusal(f"It takes {spec.dtype.name}.")
        (self._output,) = outputs
        self._dtype = spec.dtype
        known = spec.shape.rank is not None
        self.image_shape = tuple(spec.shape[1:]) if known else ()
        self._states = [
            variable
            for variable in getattr(self._loaded, "variables", [])
            if variable.name.partition(":")[0].endswith(_STATE)
        ]
        for state in self._states:
            own_state_after_fork(state)
        if self.augments:
            warnings.warn(_augmenting(self.folder), stacklevel=2)

    @property
    def augments(self) -> bool:
        """Whether random layers of Keras draw anew at every call."""
        used = self._function.variables
        return any(_KERAS_STATE in variable.name for variable in used)

    def _refusal(self, advice: str) -> ValueError:
        return invalid("ServedModel", "folder", _RULE, str(self.folder), advice=advice)

    def __call__(self, images: tf.Tensor) -> Any:
        """Returns what the SavedModel returns for images in its own range."""
        key = scope_key()
        for index, state in enumerate(self._states if key is not None else []):
            words = fold_in(key, index)
            # An export of version 0.1 has no word before them.
            counter = tf.zeros([state.shape[0] - 2], tf.int64)
            state.assign(tf.concat([counter, words], axis=0))
        return self._function(**{self._input: tf.cast(images, self._dtype)})[
            self._output
        ]

    def weights(self) -> list[tf.Variable]:
        """Returns its variables, for a fingerprint."""
        return list(getattr(self._loaded, "variables", []))


def _augmenting(folder: Path) -> str:
    return (
        f"The SavedModel in {folder} augments: layers of Keras that should draw in "
        "training only draw at every call, so that it is not the model that `predict` "
        "shows. Export with training=False: `keras_advdef.models.export_model` does."
    )

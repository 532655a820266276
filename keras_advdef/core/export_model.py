"""export_model: exports a model as it predicts, without training-time behaviour."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import CardAsset, card_of
from keras_advdef.core.errors import invalid
from keras_advdef.core.files import atomic_replace, write_errors_as
from keras_advdef.core.keras_private import get_input_signature


def export_model(
    model: keras.Model,
    filepath: str | Path,
    *args: Any,
    defended: Iterable[object] = (),
    **kwargs: Any,
) -> None:
    """Exports a model as `keras.Model.export` does, but with `training=False`.

    Keras exports each layer in its default mode, which is training for augmentation:
    `RandomFlip` and similar layers would stay active in the served model. The models of
    this package export themselves with this function; use it for any other model that
    may contain augmentation. If the export fails, the previous file or folder is
    restored.

    Args:
        model: A built `keras.Model`.
        filepath: Folder or file to write.
        *args: Further arguments of `keras.Model.export`.
        defended: Objects whose cards are added to the assets, besides the layers.
        **kwargs: `format`, `verbose` and others; see `keras.Model.export`.

    Raises:
        ValueError: If it cannot be written.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.RandomFlip(), keras.layers.Flatten()])
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> keras_advdef.models.export_model(model, folder, verbose=False)
    >>> images = np.random.default_rng(0).uniform(size=(8, 4, 4, 1)).astype("float32")
    >>> served = tf.saved_model.load(folder)
    >>> bool(np.all(served.serve(images) == model.predict(images, verbose=0)))
    True
    """
    signature = kwargs.pop("input_signature", None) or get_input_signature(model)
    # A served model with a list of one input takes the input itself.
    first = signature[0] if isinstance(signature, (list, tuple)) else None
    is_listed = isinstance(first, (list, tuple)) and len(first) == 1
    served = _AtInference(model, defended, is_listed=is_listed)
    signature = first if is_listed else signature

    def refuse(advice: str) -> ValueError:
        rule = "a place that can be written to"
        return invalid("export_model", "filepath", rule, str(filepath), advice=advice)

    with write_errors_as(refuse), atomic_replace(Path(filepath)):
        served.export(filepath, *args, input_signature=signature, **kwargs)


class _AtInference(keras.Model):
    """A model with `training=False` fixed."""

    def __init__(
        self, model: keras.Model, defended: Iterable[object], *, is_listed: bool
    ) -> None:
        # The wrapped model casts its own inputs.
        super().__init__(name=model.name, autocast=False)
        self.model = model
        self.is_listed = is_listed
        self.cards = tf.Module()
        self.cards.assets = [
            CardAsset(each, card)
            for each in defended
            if (card := card_of(each)) is not None
        ]
        self.built = True

    def call(self, inputs: tf.Tensor) -> Any:
        """Returns the outputs of the model at inference."""
        inputs = [inputs] if self.is_listed else inputs
        return self.model(inputs, training=False)

"""ClassifierModel: base of the models that wrap one classifier."""

from typing import Any, Self

import keras
import tensorflow as tf

from keras_advdef.core.cards import CardAsset, card_of
from keras_advdef.core.errors import checked_instance
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.logits import LogitsModel
from keras_advdef.core.model_inputs import call_classifier
from keras_advdef.core.softmax_head import logits_spec


class ClassifierModel(LogitsModel):
    """Base of models that predict with one classifier.

    A subclass writes `logits` and `call` and ends its constructor with `connect`. The
    classifier is then built, saved and exported with it, and so is its card.

    Args:
        classifier: A `keras.Model` that maps images to logits or to probabilities.
            One unit counts as two classes.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If the classifier is not a `keras.Model`.

    Example:

    >>> from keras_advdef.models._classifier_model import ClassifierModel
    >>> issubclass(keras_advdef.models.RandomSelfEnsemble, ClassifierModel)
    True
    """

    def __init__(self, classifier: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classifier = checked_instance(
            type(self).__name__, "classifier", classifier, keras.Model
        )
        card = card_of(self)
        if card is not None:
            self._card_asset = CardAsset(self, card)

    def connect(self) -> None:
        """Tells the model its inputs, so that it can be exported before any call."""
        if has_graph(self.classifier):
            self(keras.KerasTensor(self.classifier.inputs[0].shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds the classifier."""
        if not self.classifier.built:
            self.classifier.build(input_shape)
        super().build(input_shape)

    def compute_output_spec(
        self, images: tf.Tensor, training: bool | None = None
    ) -> keras.KerasTensor:
        """Returns the symbolic output: a number for each class."""
        return logits_spec(call_classifier(self.classifier, images, training=training))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a model made from `get_config`."""
        restored = keras.saving.deserialize_keras_object(config["classifier"])
        return cls(**{**config, "classifier": restored})

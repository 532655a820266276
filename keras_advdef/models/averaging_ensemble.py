"""AveragingEnsemble: the mean prediction of several classifiers."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, CardAsset, DefenceCard, card_of, defence
from keras_advdef.core.errors import checked_instance, invalid
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.logits import LogitsModel, classifier_logits
from keras_advdef.core.model_inputs import call_classifier
from keras_advdef.core.softmax_head import logits_spec

_OWNER = "AveragingEnsemble"
_FEWEST_MEMBERS = 2


@defence(
    DefenceCard(
        summary="Averages the probabilities of several classifiers.",
        category="ensemble",
        paper="Pang, Xu, Du, Chen, Zhu: Improving Adversarial Robustness via Promoting "
        "Ensemble Diversity, ICML 2019",
        claim="An attack must fool most members at once; diversity among them, trained "
        "with `AdaptiveDiversityPromoting`, is meant to make that hard.",
        standing="broken",
        breaks=(
            Break(
                attack="attack on an ensemble of weak defences",
                result="fooling the whole takes hardly larger perturbations",
                source="He, Wei, Chen, Carlini, Song 2017",
            ),
            Break(
                attack="PGD of 200 steps and a loss on the members' logits",
                result="fools diverse members together once the attack has converged",
                source="Tramèr, Carlini, Brendel, Mądry 2020",
            ),
        ),
        attacks=("PGD-200", "MemberDLR"),
        training_cost="that of every member",
        inference_cost="one pass per member",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class AveragingEnsemble(LogitsModel):
    """Averages the probabilities of its members, which see the same images.

    Attacks see `logits`, the logarithm of the mean probability. It is computed from the
    members' logits, so it does not saturate. `member_logits` gives each member's.
    Train all members together with `AdversarialTrainingModel` and the objective
    `AdaptiveDiversityPromoting`, or with `fit` on a loss of probabilities.

    Args:
        members: At least two `keras.Model` objects that map images to logits or to
            probabilities. One unit counts as two classes.
        **kwargs: `name` and the like; see `keras.Model`.

    Call arguments:
        images: Tensor of shape `(batch, rows, cols, channels)`.
        training: Whether the members are called as in training.

    Returns:
        Float32 probabilities of shape `(batch, classes)`.

    Raises:
        TypeError: If a member is not a `keras.Model`.
        ValueError: If there are fewer than two members, if one is given twice, or if
            their inputs or outputs differ.

    Example:

    >>> def member():
    ...     return keras.Sequential([
    ...         keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> ensemble = keras_advdef.models.AveragingEnsemble([member(), member()])
    >>> images = np.zeros((2, 4, 4, 1))
    >>> ensemble.predict(images, verbose=0).sum(axis=1).tolist()
    [1.0, 1.0]
    >>> ensemble.member_logits(images).shape
    TensorShape([2, 2, 3])
    """

    def __init__(self, members: Sequence[keras.Model], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(members, keras.Model):
            raise invalid(_OWNER, "members", "a list of models", members)
        self.members = [
            checked_instance(_OWNER, "members", each, keras.Model) for each in members
        ]
        if len({id(each) for each in self.members}) < max(
            len(self.members), _FEWEST_MEMBERS
        ):
            rule = "at least two different models"
            advice = "A model that is given twice adds nothing."
            raise invalid(_OWNER, "members", rule, members, advice=advice)
        graphs = [each for each in self.members if has_graph(each)]
        for each in graphs[1:]:
            _check_alike(graphs[0], each)
        card = card_of(self)
        if card is not None:
            self._card_asset = CardAsset(self, card)
        if len(graphs) == len(self.members):
            # Tells the model its inputs, so that it can be exported before any call.
            self(keras.KerasTensor(graphs[0].inputs[0].shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds the members."""
        for each in self.members:
            if not each.built:
                each.build(input_shape)
        super().build(input_shape)

    def member_logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns each member's logits.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the members are called as in training.

        Returns:
            Float32 tensor of shape `(batch, members, classes)`.
        """
        found = [
            classifier_logits(each, images, training=training) for each in self.members
        ]
        return tf.stack(found, axis=1)

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logarithm of the mean probability.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the members are called as in training.

        Returns:
            Float32 tensor of shape `(batch, classes)`.
        """
        return log_mean_probability(self.member_logits(images, training=training))

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the mean probability of each class."""
        members = self.member_logits(images, training=bool(training))
        return tf.reduce_mean(tf.nn.softmax(members), axis=1)

    def compute_output_spec(
        self, images: tf.Tensor, training: bool | None = None
    ) -> keras.KerasTensor:
        """Returns the symbolic output."""
        specs = [
            logits_spec(call_classifier(each, images, training=training))
            for each in self.members
        ]
        return specs[0]

    def get_config(self) -> dict[str, Any]:
        members = [keras.saving.serialize_keras_object(each) for each in self.members]
        return {**super().get_config(), "members": members}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AveragingEnsemble":
        """Returns an ensemble made from `get_config`."""
        restore = keras.saving.deserialize_keras_object
        return cls(**{**config, "members": [restore(e) for e in config["members"]]})


def _check_alike(first: keras.Model, other: keras.Model) -> None:
    shapes = [
        (model.inputs[0].shape, logits_spec(model.outputs).shape)
        for model in (first, other)
    ]
    if shapes[0] != shapes[1]:
        (wanted_in, wanted_out), (given_in, given_out) = shapes
        rule = (
            "models of equal inputs and outputs; the first maps "
            f"{wanted_in} to {wanted_out}"
        )
        advice = f"`{other.name}` maps {given_in} to {given_out}."
        raise invalid(_OWNER, "members", rule, other, advice=advice)


def log_mean_probability(members: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of the mean softmax, computed in log space.

    Args:
        members: Logits of shape `(batch, members, classes)`.

    Returns:
        Tensor of shape `(batch, classes)`.

    Example:

    >>> from keras_advdef.models.averaging_ensemble import log_mean_probability
    >>> log_mean_probability(tf.constant([[[0.0, -200.0]]])).numpy().tolist()
    [[0.0, -200.0]]
    """
    count = tf.math.log(tf.cast(tf.shape(members)[1], members.dtype))
    return tf.reduce_logsumexp(tf.nn.log_softmax(members), axis=1) - count

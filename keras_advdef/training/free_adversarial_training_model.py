"""FreeAdversarialTrainingModel: adversarial training at the price of plain training."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_choice, checked_integer, invalid
from keras_advdef.core.norms import per_image, project, steepest_step
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.core.value_range import ValueRange, checked_epsilon
from keras_advdef.training._batches import Batch, unpack_batch
from keras_advdef.training._finite_guard import FiniteStep
from keras_advdef.training._kept_perturbation import KeptPerturbation
from keras_advdef.training._robust_training_model import (
    ADVERSARIAL,
    RobustTrainingModel,
)

_OWNER = "FreeAdversarialTrainingModel"
_NORMS = ("linf", "l2")


@defence(
    DefenceCard(
        summary="Trains several times on each batch, and moves the perturbation of its "
        "images by the gradients of the same backward passes.",
        category="robust training",
        paper="Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor, "
        "Goldstein: Adversarial Training for Free!, NeurIPS 2019",
        claim="46.3 % accuracy on CIFAR-10 under PGD-20 with ten restarts at linf "
        "8/255, with eight replays; 41.5 % under AutoAttack (Croce, Hein 2020).",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="none, if the epochs are divided by the replays",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class FreeAdversarialTrainingModel(RobustTrainingModel):
    """Trains a classifier with `fit` on perturbations that come for free.

    Each step of `fit` replays its batch: every replay makes one forward and one
    backward pass, which gives the gradients of the weights, for the optimizer, and of
    the images, which move by epsilon along it within the ball and the value range. The
    perturbation is not reset: the next batch starts from it, image by image of the same
    position. It is saved with the model, as is epsilon, which `PerturbationSchedule`
    changes.

    Train for the epochs of plain training divided by `replays`. A schedule of the
    learning rate counts `replays` updates for each batch.

    As in the paper, the step is epsilon, the model runs with `training=True`, and there
    is no clean term. Unlike in the authors' code, the gradient passes pixels that were
    clipped to the range, since otherwise a black pixel that was once pushed below zero
    stays there for good.

    The first batch of the first `fit` says for how many positions a perturbation is
    kept: a smaller batch uses the first of them, and a larger one goes round.

    Logs, validation and augmentation are those of `AdversarialTrainingModel`; the loss
    and `adversarial_accuracy` of training are means over all replays.

    Args:
        classifier: A `keras.Model` that maps images to logits or probabilities;
            trained in place.
        epsilon: Number greater than 0, the radius of the ball in the units of
            `value_range`.
        replays: Integer of at least 1, the updates for each batch.
        norm: "linf" or "l2".
        value_range: Pair `(low, high)`, the range of the pixels.
        validation_attack: An `Attack` with an epsilon, or `None`.
        seed: Integer in `[0, 2**31)` that fixes the draws of the validation attack;
            `None` for a seed governed by `keras.utils.set_random_seed`.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is outside its bounds.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> model = keras_advdef.training.FreeAdversarialTrainingModel(
    ...     classifier, epsilon=0.1, replays=4)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss)
    >>> history = model.fit(np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0)
    >>> int(model.optimizer.iterations)
    4
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        epsilon: float,
        replays: int = 8,
        norm: str = "linf",
        value_range: tuple[float, float] = (0.0, 1.0),
        validation_attack: Attack | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, validation_attack, seed=seed, **kwargs)
        self.replays = checked_integer(_OWNER, "replays", replays, low=1)
        self.updates_per_batch = self.replays
        self.norm = checked_choice(_OWNER, "norm", norm, _NORMS)
        self.value_range = ValueRange.parse(_OWNER, value_range)
        radius = checked_epsilon(
            _OWNER, epsilon, self.value_range, norm=norm, low_open=True
        )
        # Of an attack of this kind, images are checked for all that must hold here.
        self._attack = FGSM(radius, norm=norm, value_range=value_range)
        self.epsilon = self.scheduled_weight("epsilon", radius)
        self.perturbation = KeptPerturbation()

    def check_training(self, images: np.ndarray, labels: Any) -> None:
        """Raises unless images of `fit` fit epsilon and the classifier."""
        self.check_attacked([self._attack], images, labels)

    def look_at_first(self, images: np.ndarray, labels: Any) -> None:
        """Makes room for the perturbations of a batch of this size."""
        super().look_at_first(images, labels)
        with self.distribute_strategy.scope():
            self.perturbation.allocate(images.shape)

    def is_first_due(self) -> bool:
        """Returns whether nobody knows the size of the batches yet, or their values."""
        return self.perturbation.rows is None or super().is_first_due()

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of `replays` updates; see `keras.Model.train_step`.

        Args:
            data: A batch of images, labels and perhaps sample weights.
        """
        self.perturbation.allocate(tuple(unpack_batch(data)[0].shape))
        return super().train_step(data)

    def train_on(self, batch: Batch, step: FiniteStep) -> dict[str, Any]:
        """Replays a batch, and keeps the perturbation.

        Args:
            batch: The batch.
            step: Checks each update.

        Returns:
            The value of each metric by its name.
        """
        range_ = self.value_range
        images = tf.cast(self.augmentation(batch.images, range_), tf.float32)
        model = TrainedClassifier(self, self.augmentation.classifier, images)
        clean = tf.clip_by_value(range_.to_unit(images), 0.0, 1.0)
        radius = tf.convert_to_tensor(self.epsilon) / range_.span
        start = self.perturbation.start(images) / range_.span
        point = project(clean + start, clean, radius, self.norm)
        for _ in range(self.replays):
            pixels = range_.pixels_of(point)
            logs, (slope,) = self.update(batch, _Replay(model, pixels), step, [pixels])
            if slope is None:
                advice = "Write steps without a gradient with `straight_through`."
                rule = "a model with a gradient with respect to its images"
                raise invalid(
                    _OWNER, "classifier", rule, self.classifier, advice=advice
                )
            # An overflow in half precision moves no image, as it moves no weight.
            slope = tf.where(tf.math.is_finite(slope), slope, 0.0)
            move = per_image(radius, point) * steepest_step(slope, point, self.norm)
            point = project(point + move, clean, radius, self.norm)
        self.perturbation.keep((point - clean) * range_.span)
        return logs

    def losses_per_example(
        self, images: tf.Tensor, labels: Any, prepared: "_Replay"
    ) -> tuple[tf.Tensor, Any]:
        """Returns the compiled loss of each perturbed image, and the outputs.

        Args:
            images: The batch without augmentation.
            labels: Labels as the user passed them.
            prepared: What to run on which images.
        """
        outputs = prepared.model(prepared.pixels, training=True)
        self.count_accuracy(ADVERSARIAL, prepared.model, labels, outputs)
        return self.example_losses(labels, outputs), outputs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": self._attack.epsilon,
            "replays": self.replays,
            "norm": self.norm,
            "value_range": list(self.value_range),
        }


class _Replay(NamedTuple):
    """What a replay runs on which images."""

    model: TrainedClassifier
    pixels: tf.Tensor

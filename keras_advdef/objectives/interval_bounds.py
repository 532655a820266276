"""IntervalBounds: trains for a loss that no perturbation of a size can exceed."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_number, invalid
from keras_advdef.core.interval import Interval
from keras_advdef.core.interval_net import IntervalNet
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.core.value_range import ValueRange, checked_epsilon
from keras_advdef.objectives.objective import Objective

_OWNER = "IntervalBounds"


@defence(
    DefenceCard(
        summary="Trains for a loss that no perturbation can exceed, by bounds that go "
        "through the layers, so that images can be certified.",
        category="robust training",
        paper="Gowal, Dvijotham, Stanforth, Bunel, Qin, Uesato, Arandjelovic, Mann, "
        "Kohli: Scalable Verified Training for Provably Robust Image Classification, "
        "ICCV 2019 (arXiv 1810.12715)",
        claim="On MNIST at linf 0.3, 96.3 % accuracy under AutoAttack (Croce, Hein "
        "2020).",
        standing="standing",
        attacks=("AutoAttack",),
        training_cost="about two passes more, for the bounds",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class IntervalBounds(Objective):
    """`kappa * loss(clean) + (1 - kappa) * loss(worst case)`.

    The worst case is the cross-entropy of logits that take, for each class, the least
    that interval bounds leave between it and the label; a dense last layer is merged
    into these differences. Dropout is off in the bounds, and batch normalization takes
    its moving statistics, as for `evaluation.certify_intervals`. Labels that are
    distributions count as their largest class in the worst case. `adversarial_accuracy`
    of training is the share of images that the bounds certify.

    Training at the full epsilon from the start fails. As in the paper, let epsilon grow
    from 0 and kappa fall from 1 over some ten epochs, with two `PerturbationSchedule`
    callbacks, and train for slightly more than you will certify.

    Args:
        epsilon: Number above 0, the largest change of a pixel in the units of
            `value_range`; `None` for that of the training model's attack.
        kappa: Number from 0 to 1, the share of the clean loss.
        box: Number above 0 and at most 1, the size of the boxes as a share of epsilon.
            Below 1 boxes lie around the adversarial images (SABR; Mueller, Eckert,
            Fischer, Vechev, ICLR 2023), which asks for an attack: more accurate, and
            certified by `method="crown"` rather than by intervals.
        value_range: Pair `(low, high)`, the range of the pixels.

    Raises:
        ValueError: If a number is out of its bounds, or from the training model if
            there is no epsilon, or no graph of layers to follow.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     classifier, objective=keras_advdef.objectives.IntervalBounds(epsilon=0.1))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    >>> schedules = [
    ...     keras_advdef.callbacks.PerturbationSchedule(lambda step: min(0.1, step)),
    ...     keras_advdef.callbacks.PerturbationSchedule(
    ...         lambda step: max(0.5, 1.0 - step), weight="kappa")]
    >>> history = model.fit(
    ...     np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0, callbacks=schedules)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'clean_accuracy', 'loss']
    """

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        kappa: float = 0.5,
        box: float = 1.0,
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self.value_range = ValueRange.parse(_OWNER, value_range)
        self.epsilon = epsilon
        if epsilon is not None:
            self.epsilon = checked_epsilon(
                _OWNER, epsilon, self.value_range, norm="linf", low_open=True
            )
        self.kappa = checked_number(_OWNER, "kappa", kappa, low=0.0, high=1.0)
        self.box = checked_number(_OWNER, "box", box, low=0.0, high=1.0, low_open=True)
        if epsilon is not None and self.box < 1.0:
            rule = "`None` where `box` is below 1"
            advice = "Boxes then lie around the images of an attack, whose epsilon "
            advice += "counts."
            raise invalid(_OWNER, "epsilon", rule, epsilon, advice=advice)
        self.needs_attack = epsilon is None

    def scheduled(self) -> dict[str, float]:
        """Returns kappa, and epsilon unless it is the attack's."""
        own = {} if self.epsilon is None else {"epsilon": self.epsilon}
        return {"kappa": self.kappa, **own}

    def __call__(
        self,
        model: TrainedClassifier,
        images: tf.Tensor,
        labels: tf.Tensor,
        adversarial: tf.Tensor,
    ) -> tuple[tf.Tensor, Any, Any]:
        """Returns the loss of each image, clean outputs, and worst-case logits."""
        clean = model(images, training=True)
        net = IntervalNet(_OWNER, model.classifier)
        radius = tf.reshape(tf.convert_to_tensor(model.epsilon), [])
        centre = tf.cast(images, tf.float32)
        if self.box < 1.0:
            reach = (1.0 - self.box) * radius
            moved = tf.cast(adversarial, tf.float32) - centre
            centre += tf.clip_by_value(moved, -reach, reach)
            radius *= self.box
        low, high = self.value_range
        box = Interval(
            tf.maximum(centre - radius, low), tf.minimum(centre + radius, high)
        )
        margins = net.margins(box, sparse_labels(labels))
        # Where the label is certified, its logit, 0, is the largest.
        worst = tf.reduce_logsumexp(-margins, axis=1)
        kappa = tf.convert_to_tensor(model.kappa)
        losses = kappa * model.example_losses(labels, clean) + (1.0 - kappa) * worst
        return losses, clean, -margins

    def get_config(self) -> dict[str, Any]:
        return {
            "epsilon": self.epsilon,
            "kappa": self.kappa,
            "box": self.box,
            "value_range": list(self.value_range),
        }

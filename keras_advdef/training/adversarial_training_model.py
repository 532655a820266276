"""AdversarialTrainingModel: trains a classifier on attacks against itself."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_choice, checked_instance, checked_number
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.random_stream import (
    next_stream_key,
)
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.adversarial_cross_entropy import AdversarialCrossEntropy
from keras_advdef.objectives.cross_entropy import CrossEntropy
from keras_advdef.objectives.objective import Objective
from keras_advdef.objectives.penalty import Penalty, checked_gradient
from keras_advdef.training._compiled_loss import labels_to_attack
from keras_advdef.training._inner_attacks import (
    InnerAttacks,
    checked_attack,
    checked_objective,
    inner_attack,
)
from keras_advdef.training._robust_training_model import (
    ADVERSARIAL,
    CLEAN,
    RobustTrainingModel,
)
from keras_advdef.training._weight_perturbation import perturbed_weights

_COMBINATIONS = ("max", "average", "random")
_ATTACK_LABELS = ("true", "predicted", "least_likely")


@keras.saving.register_keras_serializable(package="keras_advdef")
class AdversarialTrainingModel(RobustTrainingModel):
    """Trains a classifier with `fit` on adversarial images made in each step.

    Every step attacks the current classifier, with `training=False` and without
    changing any of its variables, then minimises the objective on the result. Epsilon
    is a saved, non-trainable weight, which `PerturbationSchedule` changes.

    With an attack the logs of training say which images a number is of:
    `adversarial_accuracy` is of the adversarial images of the step, `clean_accuracy` of
    the clean ones where the objective uses them, and each other compiled metric gets
    the prefix `clean_` or else `adversarial_`. In validation the compiled metrics keep
    their names and are of clean images: `val_accuracy` is clean, and
    `val_adversarial_accuracy` is added when there is a `validation_attack`.

    Augmentation at the front of the classifier (`RandomFlip` and the like, `Rescaling`
    between them) runs once in each step, and the rest of the classifier is attacked and
    trained on the augmented images: run after the attack, augmentation would shift
    perturbations away. Where it cannot be split off, a warning names the layers.

    Args:
        classifier: A `keras.Model` that maps images to logits or probabilities;
            trained in place.
        attack: An `Attack` with an epsilon, or a list of them; `None` for none.
        objective: An `Objective`; `None` for `AdversarialCrossEntropy()` with an
            attack and `CrossEntropy()` without.
        penalties: `Penalty` objects that are added to the objective.
        validation_attack: An `Attack` with an epsilon, or `None`.
        combine: With several attacks, "max" trains on the one of largest loss per
            image, "average" on all, "random" on one drawn for each step.
        attack_labels: Which class the attacks of training leave: "true" for that of the
            data, "predicted" for the model's own; or "least_likely" for attacks that
            reach the class the model takes for the least likely. A single step from
            true labels can leak them into the images: the model then does better on
            them than on clean ones (Kurakin, Goodfellow, Bengio, ICLR 2017).
            `validation_attack` always takes the true ones.
        weight_perturbation: Number of at least 0, the gamma of adversarial weight
            perturbation (Wu, Xia, Wang, NeurIPS 2020; 0.005 to 0.01 there). In each
            step the gradients of the update, and the logs, are those at weights whose
            every kernel was moved up the loss by this share of its norm; one more
            forward and backward pass. 0 for none.
        seed: Integer in `[0, 2**31)` that fixes the attacks' draws; `None` for a seed
            governed by `keras.utils.set_random_seed`.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an attack has no epsilon or is targeted, or an objective that
            needs one has none.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> attack = keras_advdef.attacks.PGD(0.1, steps=2)
    >>> model = keras_advdef.training.AdversarialTrainingModel(classifier, attack)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss)
    >>> history = model.fit(np.zeros((4, 4, 4, 1)), np.zeros(4), verbose=0)
    >>> sorted(history.history)
    ['adversarial_accuracy', 'loss']
    """

    def __init__(
        self,
        classifier: keras.Model,
        attack: Attack | Sequence[Attack] | None = None,
        objective: Objective | None = None,
        penalties: Sequence[Penalty] = (),
        validation_attack: Attack | None = None,
        *,
        combine: str = "max",
        attack_labels: str = "true",
        weight_perturbation: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, validation_attack, seed=seed, **kwargs)
        owner = type(self).__name__
        self.attack = attack
        given = attack if isinstance(attack, (list, tuple)) else [attack]
        attacks = [
            checked_attack(owner, "attack", each) for each in given if each is not None
        ]
        if objective is None:
            objective = AdversarialCrossEntropy() if attacks else CrossEntropy()
        self.objective = checked_objective(owner, objective, attacks)
        self.penalties = [
            checked_instance(owner, "penalties", each, Penalty) for each in penalties
        ]
        self.combine = checked_choice(owner, "combine", combine, _COMBINATIONS)
        self.attack_labels = checked_choice(
            owner, "attack_labels", attack_labels, _ATTACK_LABELS
        )
        self.weight_perturbation = checked_number(
            owner, "weight_perturbation", weight_perturbation, low=0.0
        )
        self._attacks = [inner_attack(owner, each, objective) for each in attacks]
        self._inner_attacks = InnerAttacks(self._attacks, combine, attack_labels)
        if attacks:
            epsilons = [each.epsilon for each in attacks]
            is_listed = isinstance(attack, (list, tuple))
            first = epsilons if is_listed else epsilons[0]
            self.epsilon = self.scheduled_weight("epsilon", first)
        for name, first in objective.scheduled().items():
            setattr(self, name, self.scheduled_weight(name, first))

    def check_training(self, images: np.ndarray, labels: Any) -> None:
        """Raises unless images of `fit` fit the attacks and the classifier."""
        if self._attacks or self.penalties or self.objective.scheduled():
            self.check_attacked(self._attacks, images, labels)

    def prepare(self, images: tf.Tensor, labels: Any) -> "_TrainingBatch":
        """Returns the clean and adversarial images of a step, and who trains on them.

        Args:
            images: A batch of images.
            labels: Their labels.
        """
        if not (self._attacks or self.penalties or self.objective.scheduled()):
            model = TrainedClassifier(self, self.classifier, images)
            return _TrainingBatch(model, images, labels, [images], None)
        labels = labels_to_attack(self, labels)
        range_ = self._attacks[0].value_range if self._attacks else None
        images = self.augmentation(images, range_)
        model = TrainedClassifier(self, self.augmentation.classifier, images)
        if tf.inside_function():
            for penalty in self.penalties:
                checked_gradient(penalty, model, images, labels)
        key = next_stream_key(self.random_state)
        batches = self._inner_attacks.batches(
            model.classifier,
            images,
            labels,
            epsilon=self.epsilon,
            key=key,
            losses=self.example_losses,
        )
        return _TrainingBatch(model, images, labels, batches, key)

    def losses_per_example(
        self, images: tf.Tensor, labels: Any, prepared: "_TrainingBatch"
    ) -> tuple[tf.Tensor, Any]:
        """Returns objective plus penalties of each image, and the metrics' outputs.

        Args:
            images: The batch without augmentation.
            labels: Labels as the user passed them.
            prepared: What `prepare` returned.
        """
        given = labels
        model, images, labels, batches, key = prepared
        # Penalties call the classifier too; the objective must be last, because each
        # call replaces the layers' own losses.
        total = 0.0
        for index, penalty in enumerate(self.penalties):
            with draw_scope(fold_in(key, streams.PENALTIES + index)):
                total += penalty(model, images, labels)
        parts = []
        for adversarial in batches:
            losses, clean, outputs = self.objective(model, images, labels, adversarial)
            parts.append(losses)
            if self.epsilon is not None:
                self.count_accuracy(ADVERSARIAL, model, given, outputs)
        if self.epsilon is not None:
            self.count_accuracy(CLEAN, model, given, clean)
        self._looks_at_clean = clean is not None
        shown = outputs if clean is None else clean
        return total + tf.add_n(parts) / len(parts), shown

    def weights_for_update(
        self, loss: Callable[[], tf.Tensor]
    ) -> contextlib.AbstractContextManager[None]:
        """Returns a scope with perturbed weights, if they are to be.

        Args:
            loss: Gives the loss of the batch, scaled as the optimizer wants it.
        """
        if not self.weight_perturbation:
            return contextlib.nullcontext()
        return perturbed_weights(self.trainable_weights, loss, self.weight_perturbation)

    def defences(self) -> list[object]:
        """Returns what trains the classifier and may have a card."""
        return [self.objective, *self.penalties]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        names = ("attack", "objective", "penalties")
        return {
            **super().get_config(),
            **{name: serialize(getattr(self, name)) for name in names},
            "combine": self.combine,
            "attack_labels": self.attack_labels,
            "weight_perturbation": self.weight_perturbation,
        }


class _TrainingBatch(NamedTuple):
    """What a step trains on: a classifier, clean images, and adversarial ones."""

    model: TrainedClassifier
    images: tf.Tensor
    labels: Any
    batches: list[tf.Tensor]
    key: tf.Tensor | None

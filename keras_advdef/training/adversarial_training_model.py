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
from keras_advdef.core.keras_training import MonitoredMetrics, compiled_metric_names
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import checked_seed, draw_scope
from keras_advdef.core.random_stream import (
    add_random_state,
    next_stream_key,
    stream_key,
    upgrade_random_states,
)
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.objectives.adversarial_cross_entropy import AdversarialCrossEntropy
from keras_advdef.objectives.cross_entropy import CrossEntropy
from keras_advdef.objectives.objective import Objective
from keras_advdef.objectives.penalty import Penalty, checked_gradient
from keras_advdef.training._augmentation import Augmentation
from keras_advdef.training._batches import only_value
from keras_advdef.training._compiled_loss import ignored_class, labels_to_attack
from keras_advdef.training._inner_attacks import (
    InnerAttacks,
    check_attacked_batch,
    checked_attack,
    checked_objective,
    inner_attack,
)
from keras_advdef.training._weight_perturbation import perturbed_weights
from keras_advdef.training.training_model import TrainingModel

_COMBINATIONS = ("max", "average", "random")
_CLEAN, _ADVERSARIAL = "clean_accuracy", "adversarial_accuracy"
# Steps count up from 0.
_VALIDATION = -1


@keras.saving.register_keras_serializable(package="keras_advdef")
class AdversarialTrainingModel(TrainingModel):
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
        weight_perturbation: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, **kwargs)
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
        self.validation_attack = validation_attack
        if validation_attack is not None:
            checked_attack(owner, "validation_attack", validation_attack)
            validation_attack.check_measures(owner, "validation_attack")
        self.combine = checked_choice(owner, "combine", combine, _COMBINATIONS)
        self.weight_perturbation = checked_number(
            owner, "weight_perturbation", weight_perturbation, low=0.0
        )
        self.seed = checked_seed(owner, seed)
        self.random_state = add_random_state(self, seed)
        self._attacks = [inner_attack(owner, each, objective) for each in attacks]
        self._inner_attacks = InnerAttacks(self._attacks, combine)
        self.epsilon = self._epsilon_weight([each.epsilon for each in attacks])
        self.accuracies = MonitoredMetrics(
            [
                keras.metrics.SparseCategoricalAccuracy(name=name)
                for name in (_CLEAN, _ADVERSARIAL)
            ]
        )
        self._looks_at_clean = False
        self._augmentation: Augmentation | None = None

    def _epsilon_weight(self, values: list[float | None]) -> keras.Variable | None:
        """Returns epsilon as a weight: one number, or one for each of a list."""
        if not values:
            return None
        is_listed = isinstance(self.attack, (list, tuple))
        start = np.asarray(values if is_listed else values[0])
        return self.add_weight(
            name="epsilon",
            shape=start.shape,
            initializer=lambda shape, dtype=None: tf.constant(start, dtype),
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def check_training(self, images: np.ndarray, labels: Any) -> None:
        """Raises unless images of `fit` fit the attacks and the classifier."""
        if self._attacks or self.penalties:
            self._check(self._attacks, images, labels)

    def check_test(self, images: np.ndarray, labels: Any) -> None:
        """Raises unless images of `evaluate` fit the validation attack."""
        if self.validation_attack is not None:
            self._check([self.validation_attack], images, labels)

    def _check(self, attacks: list[Attack], images: np.ndarray, labels: Any) -> None:
        owner, labels = type(self).__name__, labels_to_attack(self, labels)
        check_attacked_batch(owner, self.classifier, attacks, images, labels)

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation at the front of the classifier, and the rest of it."""
        if self._augmentation is None:
            with tf.init_scope():
                self._augmentation = Augmentation(self.classifier)
            self._augmentation.warn_of_rest(type(self).__name__)
        return self._augmentation

    def prepare(self, images: tf.Tensor, labels: Any) -> "_TrainingBatch":
        """Returns the clean and adversarial images of a step, and who trains on them.

        Args:
            images: A batch of images.
            labels: Their labels.
        """
        if not self._attacks and not self.penalties:
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
            if self._attacks:
                self._update_accuracy(_ADVERSARIAL, model, given, outputs)
        if self._attacks:
            self._update_accuracy(_CLEAN, model, given, clean)
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

    def training_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns the logs of a step, each named after the images it is of.

        Args:
            logs: The value of each metric by its name.
        """
        if not self._attacks or not self._looks_at_clean:
            del logs[_CLEAN]
        if not self._attacks:
            del logs[_ADVERSARIAL]
            return logs
        prefix = "clean" if self._looks_at_clean else "adversarial"
        for name in compiled_metric_names(self):
            value = logs.pop(name)
            logs.setdefault(f"{prefix}_{name}", value)
        return logs

    def measure(self, images: tf.Tensor, labels: Any) -> None:
        """Updates the accuracy under the validation attack.

        Args:
            images: A batch of images.
            labels: Their labels.
        """
        if self.validation_attack is None:
            return
        # Seeded without the counter: the same draws in every epoch, to compare them.
        key = fold_in(stream_key(self.random_state), _VALIDATION)
        attack, attacked = self.validation_attack, labels_to_attack(self, labels)
        adversarial = attack(self.classifier, images, attacked, seed=fold_in(key, 0))
        model = TrainedClassifier(self, self.classifier, adversarial)
        with draw_scope(fold_in(key, 1)):
            outputs = self(adversarial, training=False)
        self._update_accuracy(_ADVERSARIAL, model, labels, outputs)

    def test_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns the logs of an evaluation step: clean, and under the attack.

        Args:
            logs: The value of each metric by its name.
        """
        # The compiled metrics are of clean images already.
        del logs[_CLEAN]
        if self.validation_attack is None:
            del logs[_ADVERSARIAL]
        return logs

    def _update_accuracy(
        self, name: str, model: TrainedClassifier, labels: Any, outputs: Any
    ) -> None:
        """Adds a batch to an accuracy, except labels that the compiled loss ignores.

        Args:
            name: Which accuracy.
            model: What gave the outputs.
            labels: Labels as the user passed them.
            outputs: What the classifier returned; nothing is counted if it is `None`.
        """
        if outputs is None:
            return
        outputs = only_value(outputs)
        if outputs.shape[-1] == 1:
            outputs = model.logits_of(outputs)
        classes, ignored = sparse_labels(labels), ignored_class(self)
        counts = None if ignored is None else classes != ignored
        metric = self.accuracies.metrics[(_CLEAN, _ADVERSARIAL).index(name)]
        metric.update_state(classes, outputs, sample_weight=counts)

    def load_own_variables(self, store: Any) -> None:
        """Loads epsilon and the random state."""
        super().load_own_variables(upgrade_random_states(store))

    def defences(self) -> list[object]:
        """Returns what trains the classifier and may have a card."""
        return [self.objective, *self.penalties]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        names = ("attack", "objective", "penalties", "validation_attack")
        return {
            **super().get_config(),
            **{name: serialize(getattr(self, name)) for name in names},
            "combine": self.combine,
            "weight_perturbation": self.weight_perturbation,
            "seed": self.seed,
        }


class _TrainingBatch(NamedTuple):
    """What a step trains on: a classifier, clean images, and adversarial ones."""

    model: TrainedClassifier
    images: tf.Tensor
    labels: Any
    batches: list[tf.Tensor]
    key: tf.Tensor | None

"""AdversarialTrainingModel: trains a classifier on attacks against itself."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_choice, checked_instance
from keras_advdef.core.keras_training import MonitoredMetrics, compiled_metric_names
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
from keras_advdef.training._check_batch import check_batch
from keras_advdef.training._count_right import count_right
from keras_advdef.training._crafting import Crafting, checked_attack, inner_attack
from keras_advdef.training._example_loss import named_labels
from keras_advdef.training._parts import alone, parts_of
from keras_advdef.training.training_model import TrainingModel

_COMBINATIONS = ("max", "average", "random")
_CLEAN, _ADVERSARIAL = "clean_accuracy", "adversarial_accuracy"
# Steps count up from 0.
_VALIDATION = -1


@keras.saving.register_keras_serializable(package="keras_advdef")
class AdversarialTrainingModel(TrainingModel):
    """Trains a classifier with `fit` on adversarial images made in each step.

    Every step attacks the classifier as it is, with `training=False` and without
    touching any of its variables, then minimises the objective on the result. Epsilon
    is a saved, non-trainable weight, which `PerturbationSchedule` moves.

    With an attack the logs of training name what each number is of:
    `adversarial_accuracy` of the adversarial images of the step, `clean_accuracy` of
    the clean ones where the objective looks at them, and `clean_` or else
    `adversarial_` before each other compiled metric. In validation the compiled metrics
    have their own names and are of clean images, so `val_accuracy` is clean, and
    `val_adversarial_accuracy` stands beside it when there is a `validation_attack`.

    Augmentation at the front of the classifier (`RandomFlip` and the like, `Rescaling`
    between them) is run once in each step, and what stands behind it is attacked and
    trained on the augmented images: run after the attack it would shift perturbations
    away. Where it cannot be split off, a warning names the layers.

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
        seed: Integer in `[0, 2**31)` that fixes the attacks' draws; `None` for a seed
            governed by `keras.utils.set_random_seed`.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an attack has no epsilon or is targeted.

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
        self.objective = checked_instance(owner, "objective", objective, Objective)
        self.penalties = [
            checked_instance(owner, "penalties", each, Penalty) for each in penalties
        ]
        self.validation_attack = validation_attack
        if validation_attack is not None:
            checked_attack(owner, "validation_attack", validation_attack)
        self.combine = checked_choice(owner, "combine", combine, _COMBINATIONS)
        self.seed = checked_seed(owner, seed)
        self.random_state = add_random_state(self, seed)
        self._attacks = [inner_attack(each, objective) for each in attacks]
        self.epsilon = self._epsilon_weight([each.epsilon for each in attacks])
        self.accuracies = MonitoredMetrics(
            [
                keras.metrics.SparseCategoricalAccuracy(name=name)
                for name in (_CLEAN, _ADVERSARIAL)
            ]
        )
        self._looks_at_clean = False
        self._augmentation: Augmentation | None = None

    def _epsilon_weight(self, values: list[Any]) -> Any:
        """One number for one attack, one for each of a list, none without."""
        if not values:
            return None
        start = values if isinstance(self.attack, (list, tuple)) else values[0]
        return self.add_weight(
            name="epsilon",
            shape=np.shape(start),
            initializer=lambda shape, dtype=None: tf.constant(start, dtype),
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the classifier; see `keras.Model.fit`.

        Args:
            x: Images; arrays are checked against the attack's value range.
            y: Labels; arrays are checked against the number of classes.
            *args: As in Keras.
            **kwargs: As in Keras; arrays in `validation_data` are checked too.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If images or labels do not fit, or as of `TrainingModel.fit`.
        """
        held_out = kwargs.get("validation_data")
        self._check_arrays(self.check_training, x, y)
        if isinstance(held_out, (tuple, list)):
            self._check_arrays(self.check_test, *held_out[:2])
        return super().fit(x, y, *args, **kwargs)

    def _check_arrays(self, check: Any, images: Any, labels: Any = None) -> None:
        """Checks all images where they lie in memory, not the first ones alone."""
        images, labels = alone(images), alone(labels)
        if isinstance(images, (np.ndarray, tf.Tensor)) and labels is not None:
            check(np.asarray(images), np.asarray(labels))

    def check_training(self, images: np.ndarray, labels: Any) -> None:
        """Raises unless the first images of `fit` fit attacks and classifier."""
        if self._attacks or self.penalties:
            self._check(self._attacks, images, labels)

    def check_test(self, images: np.ndarray, labels: Any) -> None:
        """Raises unless the first images of `evaluate` fit the validation attack."""
        if self.validation_attack is not None:
            self._check([self.validation_attack], images, labels)

    def _check(self, attacks: list[Attack], images: np.ndarray, labels: Any) -> None:
        owner, labels = type(self).__name__, named_labels(self, labels)
        check_batch(owner, self.classifier, attacks, images, labels)

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation in front of the classifier, and what is attacked behind."""
        if self._augmentation is None:
            with tf.init_scope():
                self._augmentation = Augmentation(self.classifier)
            self._augmentation.tell(type(self).__name__)
        return self._augmentation

    def prepare(self, images: Any, labels: Any) -> "_Step":
        """Returns what a step trains on, made outside the weight tape."""
        if not self._attacks and not self.penalties:
            model = TrainedClassifier(self, self.classifier, images)
            return _Step(model, images, labels, [images], None)
        labels = named_labels(self, labels)
        range_ = self._attacks[0].value_range if self._attacks else None
        images, net = self.augmentation(images, range_), self.augmentation.rest
        model = TrainedClassifier(self, net, images)
        if tf.inside_function():
            for penalty in self.penalties:
                checked_gradient(penalty, model, images, labels)
        key = next_stream_key(self.random_state)
        craft = Crafting(self._attacks, self.combine, net, self.example_losses)
        batches = craft(images, labels, self.epsilon, key)
        return _Step(model, images, labels, batches, key)

    def losses_per_example(
        self, images: Any, labels: Any, prepared: "_Step"
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns objective plus penalties of each image, and the metrics' outputs."""
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
                self._count(_ADVERSARIAL, model, given, outputs)
        if self._attacks:
            self._count(_CLEAN, model, given, clean)
        self._looks_at_clean = clean is not None
        shown = outputs if clean is None else clean
        return total + tf.add_n(parts) / len(parts), shown

    def _count(self, name: str, model: Any, labels: Any, outputs: Any) -> None:
        metric = self.accuracies.metrics[(_CLEAN, _ADVERSARIAL).index(name)]
        count_right(metric, model, labels, outputs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one step, each named after the images it is of."""
        logs = super().train_step(data)
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

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one evaluation step: clean, and under the attack."""
        if self.validation_attack is not None:
            images, labels, _ = parts_of(data)
            # Seeded without the counter: always the same draws, to compare epochs.
            key = fold_in(stream_key(self.random_state), _VALIDATION)
            attack, named = self.validation_attack, named_labels(self, labels)
            adversarial = attack(self.classifier, images, named, seed=fold_in(key, 0))
            with draw_scope(fold_in(key, 1)):
                outputs = self(adversarial, training=False)
            self._count(_ADVERSARIAL, self, labels, outputs)
        logs = super().test_step(data)
        # Of clean images the compiled metrics tell.
        del logs[_CLEAN]
        if self.validation_attack is None:
            del logs[_ADVERSARIAL]
        return logs

    def load_own_variables(self, store: Any) -> None:
        """Loads epsilon and the random state."""
        super().load_own_variables(upgrade_random_states(store))

    def defences(self) -> list[Any]:
        """Returns what trains the classifier and may have a card."""
        return [self.objective, *self.penalties]

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        names = ("attack", "objective", "penalties", "validation_attack")
        return {
            **super().get_config(),
            **{name: serialize(getattr(self, name)) for name in names},
            "combine": self.combine,
            "seed": self.seed,
        }


class _Step(NamedTuple):
    """What a step trains on."""

    model: TrainedClassifier
    images: Any
    labels: Any
    batches: list[Any]
    key: Any

"""RobustTrainingModel: base of the models that train on attacked images."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.keras_training import MonitoredMetrics, compiled_metric_names
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import checked_seed, draw_scope
from keras_advdef.core.random_stream import (
    add_random_state,
    stream_key,
    upgrade_random_states,
)
from keras_advdef.core.trained_classifier import TrainedClassifier
from keras_advdef.training._augmentation import Augmentation
from keras_advdef.training._batches import only_value
from keras_advdef.training._compiled_loss import ignored_class, labels_to_attack
from keras_advdef.training._inner_attacks import check_attacked_batch, checked_attack
from keras_advdef.training.training_model import TrainingModel

CLEAN, ADVERSARIAL = "clean_accuracy", "adversarial_accuracy"
# Steps count up from 0.
_VALIDATION = -1


class RobustTrainingModel(TrainingModel):
    """Base of the models that train on attacked images.

    It counts the accuracies that the logs hold, makes the attack of validation, and
    runs the augmentation at the front of the classifier before images are attacked.

    Args:
        classifier: The classifier.
        validation_attack: An `Attack` with an epsilon, or `None`.
        seed: Integer in `[0, 2**31)` that fixes the attacks' draws, or `None`.
        **kwargs: `name` and the like.
    """

    def __init__(
        self,
        classifier: keras.Model,
        validation_attack: Attack | None,
        *,
        seed: int | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, **kwargs)
        owner = type(self).__name__
        self.validation_attack = validation_attack
        if validation_attack is not None:
            checked_attack(owner, "validation_attack", validation_attack)
            validation_attack.check_measures(owner, "validation_attack")
        self.seed = checked_seed(owner, seed)
        self.random_state = add_random_state(self, seed)
        # Epsilon of the attacks of training, `None` without any.
        self.epsilon: keras.Variable | None = None
        self.accuracies = MonitoredMetrics(
            [
                keras.metrics.SparseCategoricalAccuracy(name=name)
                for name in (CLEAN, ADVERSARIAL)
            ]
        )
        # Whether clean images are among those that a step trains on.
        self._looks_at_clean = False
        self._augmentation: Augmentation | None = None

    def scheduled_weight(self, name: str, first: Any) -> keras.Variable:
        """Returns a number as a saved weight that a schedule can change.

        Args:
            name: Its name.
            first: One number, or one for each of several attacks.
        """
        start = np.asarray(first)
        return self.add_weight(
            name=name,
            shape=start.shape,
            initializer=lambda shape, dtype=None: tf.constant(start, dtype),
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    def check_test(self, images: np.ndarray, labels: Any) -> None:
        """Raises unless images of `evaluate` fit the validation attack."""
        if self.validation_attack is not None:
            self.check_attacked([self.validation_attack], images, labels)

    def check_attacked(
        self, attacks: Sequence[Attack], images: np.ndarray, labels: Any
    ) -> None:
        """Raises unless images fit some attacks and the classifier.

        Args:
            attacks: The attacks.
            images: A batch of images, or all of them.
            labels: Their labels.
        """
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

    def training_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns the logs of a step, each named after the images it is of.

        Args:
            logs: The value of each metric by its name.
        """
        if self.epsilon is None or not self._looks_at_clean:
            del logs[CLEAN]
        if self.epsilon is None:
            del logs[ADVERSARIAL]
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
        self.count_accuracy(ADVERSARIAL, model, labels, outputs)

    def test_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns the logs of an evaluation step: clean, and under the attack.

        Args:
            logs: The value of each metric by its name.
        """
        # The compiled metrics are of clean images already.
        del logs[CLEAN]
        if self.validation_attack is None:
            del logs[ADVERSARIAL]
        return logs

    def count_accuracy(
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
        metric = self.accuracies.metrics[(CLEAN, ADVERSARIAL).index(name)]
        metric.update_state(classes, outputs, sample_weight=counts)

    def load_own_variables(self, store: Any) -> None:
        """Loads epsilon and the random state."""
        super().load_own_variables(upgrade_random_states(store))

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "validation_attack": serialize(self.validation_attack),
            "seed": self.seed,
        }

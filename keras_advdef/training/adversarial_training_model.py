"""AdversarialTrainingModel: trains a classifier on attacks against itself."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.arguments import checked_choice, checked_instance
from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.keras_training import MonitoredMetrics
from keras_advdef.core.random_numbers import fold_in, integers
from keras_advdef.core.random_state import checked_seed, draw_scope
from keras_advdef.core.random_stream import (
    add_random_state,
    advance,
    of_today,
    stream_key,
)
from keras_advdef.core.value_range import (
    checked_images,
    checked_labels,
    sparse_labels,
)
from keras_advdef.objectives.adversarial_cross_entropy import AdversarialCrossEntropy
from keras_advdef.objectives.cross_entropy import CrossEntropy
from keras_advdef.objectives.objective import Objective
from keras_advdef.objectives.penalty import Penalty, checked_gradient
from keras_advdef.training.training_model import TrainingModel

_COMBINATIONS = ("max", "average", "random")
_METRIC = "adversarial_accuracy"
# From here on the draws of a step belong to its penalties.
_PENALTIES = 2**30
# Steps count up from 0.
_VALIDATION = -1


@keras.saving.register_keras_serializable(package="keras_advdef")
class AdversarialTrainingModel(TrainingModel):
    """Trains a classifier with `fit` on adversarial images made in each step.

    Every step attacks the classifier as it is, with `training=False` and without
    touching any of its variables, then minimises the objective on the result. Epsilon
    is a saved, non-trainable weight, which `PerturbationSchedule` moves. Logs carry
    `adversarial_accuracy`, the accuracy on the images of the step; the compiled metrics
    are those of the clean images where the objective looks at them, else of the
    adversarial ones. Validation is clean, and `val_adversarial_accuracy` stands beside
    it when there is a `validation_attack`.

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
            _checked_attack(owner, "attack", each) for each in given if each is not None
        ]
        if objective is None:
            objective = AdversarialCrossEntropy() if attacks else CrossEntropy()
        self.objective = checked_instance(owner, "objective", objective, Objective)
        self.penalties = [
            checked_instance(owner, "penalties", each, Penalty) for each in penalties
        ]
        self.validation_attack = validation_attack
        if validation_attack is not None:
            _checked_attack(owner, "validation_attack", validation_attack)
        self.combine = checked_choice(owner, "combine", combine, _COMBINATIONS)
        self.seed = checked_seed(owner, seed)
        self.random_state = add_random_state(self, seed)
        self._attacks = [_inner_attack(each, objective) for each in attacks]
        self.epsilon = self._epsilon_weight([each.epsilon for each in attacks])
        self.adversarial_metrics = MonitoredMetrics(
            [keras.metrics.SparseCategoricalAccuracy(name=_METRIC)]
        )

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
            ValueError: If images or labels do not fit the attack or the model.
        """
        if self._attacks:
            self._check_arrays(self._attacks[0], x, y)
        held_out = kwargs.get("validation_data")
        if self.validation_attack is not None and isinstance(held_out, (tuple, list)):
            self._check_arrays(self.validation_attack, *held_out[:2])
        return super().fit(x, y, *args, **kwargs)

    def _check_arrays(self, attack: Attack, images: Any, labels: Any) -> None:
        if not isinstance(images, np.ndarray):
            return
        owner = type(self).__name__
        checked_images(owner, images, attack.value_range)
        if has_graph(self.classifier):
            classes = self.classifier.output_shape[-1]
            checked_labels(owner, labels, count=len(images), classes=classes)

    def prepare(self, images: Any, labels: Any) -> tuple[list[Any], Any]:
        """Returns the batches of adversarial images to train on, and a key."""
        if tf.inside_function():
            for penalty in self.penalties:
                checked_gradient(penalty, self, images, labels)
        key = None
        if self._attacks or self.penalties:
            key = advance(self.random_state)
        return self._craft(images, labels, key), key

    def losses_per_example(
        self, images: Any, labels: Any, prepared: tuple[list[Any], Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns objective plus penalties of each image, and the metrics' outputs."""
        batches, key = prepared
        # Penalties call the classifier too; the objective must be last, because each
        # call replaces the layers' own losses.
        total = 0.0
        for index, penalty in enumerate(self.penalties):
            with draw_scope(fold_in(key, _PENALTIES + index)):
                total += penalty(self, images, labels)
        parts = []
        for adversarial in batches:
            losses, clean, outputs = self.objective(self, images, labels, adversarial)
            parts.append(losses)
            if self._attacks and outputs is not None:
                self.adversarial_metrics.update_state(sparse_labels(labels), outputs)
        shown = outputs if clean is None else clean
        return total + tf.add_n(parts) / len(parts), shown

    def _craft(self, images: Any, labels: Any, key: Any) -> list[Any]:
        """Runs the attacks and combines what they found."""
        if not self._attacks:
            return [images]
        count = len(self._attacks)
        if count > 1 and self.combine == "random":
            index = tf.cast(integers(fold_in(key, count), [], count), tf.int32)
            branches = [
                lambda i=i: self._run_attack(i, images, labels, key)
                for i in range(count)
            ]
            return [tf.switch_case(index, branches)]
        batches = [self._run_attack(i, images, labels, key) for i in range(count)]
        if count > 1 and self.combine == "max":
            return [self._worst(batches, labels)]
        return batches

    def _run_attack(self, index: int, images: Any, labels: Any, key: Any) -> tf.Tensor:
        epsilon = tf.reshape(tf.convert_to_tensor(self.epsilon), [-1])[index]
        attack = self._attacks[index]
        adversarial = attack(
            self.classifier, images, labels, epsilon=epsilon, seed=fold_in(key, index)
        )
        return tf.stop_gradient(adversarial)

    def _worst(self, batches: list[tf.Tensor], labels: Any) -> tf.Tensor:
        """Picks, for each image, the attack of largest loss."""
        losses = []
        with keras.StatelessScope():
            for batch in batches:
                outputs = self.classifier(batch, training=False)
                losses.append(self.example_losses(labels, outputs))
        if losses[0].shape.rank == 0:
            rule = "one with a value for each image when `combine` is 'max'"
            raise invalid(type(self).__name__, "loss", rule, self.example_loss)
        worst = tf.argmax(tf.stack(losses, axis=1), axis=1)
        chosen = tf.gather(tf.stack(batches, axis=1), worst, batch_dims=1)
        return tf.stop_gradient(chosen)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one step, without a metric that was not taken."""
        logs = super().train_step(data)
        if not self._attacks:
            logs.pop(_METRIC)
        return logs

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one evaluation step: clean, and under the attack."""
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.validation_attack is not None:
            # Seeded without the counter: always the same draws, to compare epochs.
            key = fold_in(stream_key(self.random_state), _VALIDATION)
            adversarial = self.validation_attack(
                self.classifier, images, labels, seed=fold_in(key, 0)
            )
            with draw_scope(fold_in(key, 1)):
                outputs = self.classifier(adversarial, training=False)
            self.adversarial_metrics.update_state(sparse_labels(labels), outputs)
        logs = super().test_step(data)
        if self.validation_attack is None:
            logs.pop(_METRIC)
        return logs

    def load_own_variables(self, store: Any) -> None:
        """Loads epsilon and the random state."""
        super().load_own_variables(of_today(store))

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


def _checked_attack(owner: str, argument: str, attack: Any) -> Attack:
    checked_instance(owner, argument, attack, Attack)
    if attack.epsilon is None:
        raise invalid(owner, argument, "an attack with an epsilon", attack)
    if attack.targeted:
        raise invalid(owner, argument, "an untargeted attack", attack)
    return attack


def _inner_attack(attack: Attack, objective: Objective) -> Attack:
    """Gives the attack what the objective states about its inner problem."""
    stated = {"loss": objective.inner_loss, "random_start": objective.inner_start}
    changes = {name: value for name, value in stated.items() if value is not None}
    return attack.replace(**changes) if changes else attack

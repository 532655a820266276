"""Makes the adversarial images of a training step."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.errors import checked_instance, invalid
from keras_advdef.core.model_inputs import call_classifier
from keras_advdef.core.random_numbers import fold_in, integers
from keras_advdef.objectives.objective import Objective


def checked_attack(owner: str, argument: str, attack: Any) -> Attack:
    """Returns an attack, or raises if it is none to train on.

    Args:
        owner: Name of the class that takes it.
        argument: Name of the argument.
        attack: What the user gave.

    Raises:
        TypeError: If it is no `Attack`.
        ValueError: If it has no epsilon or is targeted.
    """
    checked_instance(owner, argument, attack, Attack)
    if attack.epsilon is None:
        raise invalid(owner, argument, "an attack with an epsilon", attack)
    if attack.targeted:
        raise invalid(owner, argument, "an untargeted attack", attack)
    return attack


def inner_attack(attack: Attack, objective: Objective) -> Attack:
    """Returns an attack with what an objective states about its inner problem.

    Args:
        attack: The attack.
        objective: The objective.
    """
    stated = {"loss": objective.inner_loss, "random_start": objective.inner_start}
    changes = {name: value for name, value in stated.items() if value is not None}
    return attack.replace(**changes) if changes else attack


class Crafting:
    """Attacks a classifier and combines what several attacks find.

    Args:
        attacks: The attacks; without any, images stay clean.
        combine: "max", "average" or "random".
        classifier: What is attacked.
        losses: Returns the loss of each image for labels and outputs.
    """

    def __init__(
        self,
        attacks: Sequence[Attack],
        combine: str,
        classifier: keras.Model,
        losses: Callable[[Any, Any], tf.Tensor],
    ) -> None:
        self._attacks = attacks
        self._combine = combine
        self._classifier = classifier
        self._losses = losses

    def __call__(
        self, images: Any, labels: Any, epsilon: Any, key: tf.Tensor
    ) -> list[Any]:
        """Returns the batches to train on.

        Args:
            images: Clean images.
            labels: Their labels.
            epsilon: The number of one attack, those of several, or `None`.
            key: Key for all draws.
        """
        if not self._attacks:
            return [images]
        radii = tf.reshape(tf.convert_to_tensor(epsilon), [-1])
        count = len(self._attacks)

        def run(index: int) -> tf.Tensor:
            attack = self._attacks[index]
            found = attack(
                self._classifier,
                images,
                labels,
                epsilon=radii[index],
                seed=fold_in(key, index),
            )
            return tf.stop_gradient(found)

        if count > 1 and self._combine == "random":
            index = tf.cast(integers(fold_in(key, count), [], count), tf.int32)
            branches = [lambda i=i: run(i) for i in range(count)]
            return [tf.switch_case(index, branches)]
        batches = [run(i) for i in range(count)]
        if count > 1 and self._combine == "max":
            return [self._worst(batches, labels)]
        return batches

    def _worst(self, batches: list[tf.Tensor], labels: Any) -> tf.Tensor:
        """Picks, for each image, the attack of largest loss."""
        losses = []
        with keras.StatelessScope():
            for batch in batches:
                outputs = call_classifier(self._classifier, batch, training=False)
                losses.append(self._losses(labels, outputs))
        if losses[0].shape.rank == 0:
            rule = "one with a value for each image when `combine` is 'max'"
            raise invalid("AdversarialTrainingModel", "loss", rule, "one of a batch")
        worst = tf.argmax(tf.stack(losses, axis=1), axis=1)
        chosen = tf.gather(tf.stack(batches, axis=1), worst, batch_dims=1)
        return tf.stop_gradient(chosen)

"""The attacks of adversarial training: their checks, and the images they make."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.errors import checked_instance, invalid
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.labels import checked_labels
from keras_advdef.core.logits import classifier_logits
from keras_advdef.core.masked_classes import MASKED
from keras_advdef.core.model_inputs import call_classifier, single_input
from keras_advdef.core.random_numbers import fold_in, integers
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.random_stream import preserve_variables
from keras_advdef.core.value_range import check_values, warn_small_epsilon
from keras_advdef.layers.input_transform import show_images
from keras_advdef.objectives.objective import Objective

_OWNER = "AdversarialTrainingModel"


def checked_attack(owner: str, argument: str, attack: Any) -> Attack:
    """Returns an attack, or raises if nobody can train on it.

    Args:
        owner: Name of the class that takes it.
        argument: Name of the argument.
        attack: What the user gave.

    Raises:
        TypeError: If it is not an `Attack`.
        ValueError: If it has no epsilon or is targeted.
    """
    checked_instance(owner, argument, attack, Attack)
    if attack.epsilon is None:
        raise invalid(owner, argument, "an attack with an epsilon", attack)
    if attack.targeted:
        raise invalid(owner, argument, "an untargeted attack", attack)
    return attack


def checked_objective(
    owner: str, objective: Any, attacks: Sequence[Attack]
) -> Objective:
    """Returns an objective, or raises if it cannot be trained on.

    Args:
        owner: Name of the class that takes it.
        objective: What the user gave.
        attacks: The attacks to train on.

    Raises:
        TypeError: If it is not an `Objective`.
        ValueError: If it needs an attack and there is none, or the other way round.
    """
    checked_instance(owner, "objective", objective, Objective)
    name = type(objective).__name__
    if objective.needs_attack and not attacks:
        rule = f"an attack with an epsilon, on which `{name}` trains"
        advice = "Pass for example `PGD(8 / 255, steps=10)`."
        raise invalid(owner, "attack", rule, None, advice=advice)
    if attacks and "epsilon" in objective.scheduled():
        rule = f"`None`, as `{name}` has an epsilon of its own"
        advice = f"Or leave out that of `{name}`, for the attack's to count."
        raise invalid(owner, "attack", rule, attacks[0], advice=advice)
    return objective


def inner_attack(owner: str, attack: Attack, objective: Objective) -> Attack:
    """Returns an attack with the loss and start that an objective states.

    Args:
        owner: Name of the class that trains.
        attack: The attack.
        objective: The objective.

    Raises:
        ValueError: If the attack has no such arguments.
    """
    stated = {"loss": objective.inner_loss, "random_start": objective.inner_start}
    changes = {name: value for name, value in stated.items() if value is not None}
    try:
        return attack.replace(**changes) if changes else attack
    except TypeError as error:
        names = " and ".join(f"`{name}`" for name in changes)
        rule = f"one that takes {names}, which `{type(objective).__name__}` sets"
        advice = "Use `PGD`."
        raise invalid(owner, "attack", rule, attack, advice=advice) from error


def check_attacked_batch(
    owner: str,
    classifier: keras.Model,
    attacks: Sequence[Attack],
    images: Any,
    labels: Any,
) -> None:
    """Raises if images or labels do not fit the attacks or the classifier.

    Args:
        owner: Name of the class that trains.
        classifier: The classifier.
        attacks: The attacks on these images.
        images: Array of a batch or of all images; not those of several inputs.
        labels: Their labels.

    Raises:
        ValueError: If they do not fit; see the message.
    """
    images = single_input(owner, images)
    for attack in attacks:
        warn_small_epsilon(owner, attack.epsilon or 0.0, attack.value_range)
    for value_range in dict.fromkeys(each.value_range for each in attacks):
        check_values(owner, images, value_range)
    classes = _known_classes(classifier)
    checked_labels(owner, labels, count=len(images), classes=classes)
    show_images(classifier, images)


def _known_classes(classifier: keras.Model) -> int | None:
    """Returns the number of classes of a functional model, `None` for others."""
    if not has_graph(classifier):
        return None
    units = classifier.outputs[0].shape[-1]
    return 2 if units == 1 else units


class InnerAttacks:
    """Attacks a classifier in each step, and combines what several attacks find.

    Args:
        attacks: The attacks; without any, images stay clean.
        combine: "max", "average" or "random".
        attack_labels: "true", "predicted" or "least_likely".

    Raises:
        ValueError: If an attack cannot aim at the least likely class.
    """

    def __init__(
        self, attacks: Sequence[Attack], combine: str, attack_labels: str = "true"
    ) -> None:
        self._combine = combine
        self._attack_labels = attack_labels
        self._attacks = attacks
        if attack_labels == "least_likely":
            self._attacks = [_targeted(each) for each in attacks]

    def batches(
        self,
        classifier: keras.Model,
        images: tf.Tensor,
        labels: tf.Tensor,
        *,
        epsilon: keras.Variable | None,
        key: tf.Tensor,
        losses: Callable[[Any, Any], tf.Tensor],
    ) -> list[tf.Tensor]:
        """Returns the batches to train on, as constants.

        Args:
            classifier: The classifier.
            images: Clean images.
            labels: Their labels.
            epsilon: One number for one attack, several for several, or `None`.
            key: Key for all draws.
            losses: Gives the loss of each image from labels and outputs.
        """
        if not self._attacks:
            return [images]
        radii = tf.reshape(tf.convert_to_tensor(epsilon), [-1])
        count = len(self._attacks)
        aims: dict[str, tf.Tensor | None] = {"labels": labels}
        if self._attack_labels == "predicted":
            # An attack without labels takes the model's own predictions.
            aims = {"labels": None}
        elif self._attack_labels == "least_likely":
            drawn = fold_in(key, count + 1)
            aims = {"target_labels": _least_likely(classifier, images, drawn)}

        def attacked(index: int) -> tf.Tensor:
            found = self._attacks[index](
                classifier,
                images,
                **aims,
                epsilon=radii[index],
                seed=fold_in(key, index),
            )
            return tf.stop_gradient(found)

        if count > 1 and self._combine == "random":
            index = tf.cast(integers(fold_in(key, count), [], count), tf.int32)
            branches = [lambda i=i: attacked(i) for i in range(count)]
            return [tf.switch_case(index, branches)]
        found = [attacked(index) for index in range(count)]
        if count > 1 and self._combine == "max":
            return [_worst(found, labels, classifier, losses)]
        return found


def _targeted(attack: Attack) -> Attack:
    """Returns an attack that reaches a class, or raises if there is none."""
    try:
        return attack.replace(targeted=True)
    except (TypeError, ValueError) as error:
        rule = "one that can be targeted, for `attack_labels='least_likely'`"
        advice = "Use `FGSM` or `PGD` with a loss of the labels."
        raise invalid(_OWNER, "attack", rule, attack, advice=advice) from error


def _least_likely(
    classifier: keras.Model, images: tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """Returns the class that a classifier takes for the least likely, `(batch,)`."""
    with preserve_variables(), draw_scope(key):
        logits = classifier_logits(classifier, images, training=False)
    # A class that a mask excludes cannot be reached.
    return tf.argmin(tf.where(logits > MASKED, logits, np.inf), axis=-1)


def _worst(
    batches: list[tf.Tensor],
    labels: tf.Tensor,
    classifier: keras.Model,
    losses: Callable[[Any, Any], tf.Tensor],
) -> tf.Tensor:
    """Returns each image as the attack of largest loss left it."""
    found = []
    with keras.StatelessScope():
        for batch in batches:
            outputs = call_classifier(classifier, batch, training=False)
            found.append(losses(labels, outputs))
    if found[0].shape.rank == 0:
        rule = "one with a value for each image when `combine` is 'max'"
        raise invalid(_OWNER, "loss", rule, "one of a batch")
    worst = tf.argmax(tf.stack(found, axis=1), axis=1)
    chosen = tf.gather(tf.stack(batches, axis=1), worst, batch_dims=1)
    return tf.stop_gradient(chosen)

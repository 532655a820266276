"""The check of concrete images and labels before they are attacked in training."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.labels import checked_labels
from keras_advdef.core.model_inputs import single_input
from keras_advdef.core.value_range import check_values, warn_small_epsilon
from keras_advdef.layers.input_transform import show_images


def check_batch(
    owner: str,
    classifier: keras.Model,
    attacks: Sequence[Attack],
    images: Any,
    labels: Any,
) -> None:
    """Raises if images or labels do not fit the attacks or the classifier.

    Args:
        owner: Name of the class that trains.
        classifier: What is trained.
        attacks: Those that will meet the images.
        images: A batch, or all images; one array, not those of several inputs.
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
    """Returns how many classes a model of a graph tells apart, `None` for others."""
    if not has_graph(classifier):
        return None
    units = classifier.outputs[0].shape[-1]
    return 2 if units == 1 else units

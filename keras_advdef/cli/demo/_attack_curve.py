"""Accuracy of a classifier as epsilon grows."""

from collections.abc import Callable

import keras
import numpy as np

from keras_advdef.attacks import Attack
from keras_advdef.core.predictions import predicted_classes
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate

_BATCH_SIZE = 200


def predicted_labels(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns the class that a classifier predicts for each image.

    Args:
        model: Classifier that returns logits.
        images: Array of shape `(count, rows, cols, channels)` in `[0, 1]`.
    """
    outputs = model.predict(images, batch_size=_BATCH_SIZE, verbose=0)
    return predicted_classes(outputs)


def attack_curve(
    model: keras.Model,
    attack: Attack,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    epsilons: list[float],
    seed: int,
    advance: Callable[[str], None],
) -> list[AccuracyEstimate]:
    """Measures the accuracy under an attack at every epsilon.

    An image counts as correct only if it is classified correctly before and after
    the attack, since the attacker may also leave it unchanged.

    Args:
        model: Classifier that returns logits.
        attack: Attack on a fixed ball. The same object serves all epsilons, so its
            graph is traced once.
        images: Array of shape `(count, rows, cols, channels)` in `[0, 1]`.
        labels: Whole numbers of shape `(count,)`.
        epsilons: Radii of the ball, in units of the pixels; 0 gives clean accuracy.
        seed: Seed of the attack.
        advance: Called with a short note after each epsilon.

    Returns:
        One estimate for each epsilon.
    """
    clean = predicted_labels(model, images) == labels
    curve = []
    for epsilon in epsilons:
        hits = clean
        if epsilon > 0.0:
            adversarial = attack.generate(
                model,
                images,
                labels,
                epsilon=epsilon,
                seed=seed,
                batch_size=_BATCH_SIZE,
                verbose=0,
            )
            hits = clean & (predicted_labels(model, adversarial) == labels)
        curve.append(AccuracyEstimate(int(hits.sum()), len(hits)))
        advance(f"epsilon {epsilon:.3g}: {100 * curve[-1].accuracy:.1f} %")
    return curve

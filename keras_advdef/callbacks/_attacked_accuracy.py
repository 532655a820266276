"""The accuracy of a training model on fixed images under an attack."""

import keras
import numpy as np

from keras_advdef.attacks.attack import Attack


def attacked_accuracy(
    attack: Attack,
    model: keras.Model,
    probe: tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int,
    seed: int,
) -> float:
    """Returns the share of images that a model classifies correctly under an attack.

    Args:
        attack: The attack; its functions are traced once per model.
        model: The model, which stays as it is.
        probe: Images `(count, rows, cols, channels)`, and their classes, integers.
        batch_size: Images per compiled call.
        seed: Integer that fixes the draws of attack and model.
    """
    images, classes = probe
    adversarial = attack.generate(
        model, images, classes, seed=seed, batch_size=batch_size, verbose=0
    )
    predicted = attack.predict(model, adversarial, seed=seed, batch_size=batch_size)
    return float(np.mean(predicted == classes))

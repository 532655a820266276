"""A training model whose images are its logits, to compute objectives by hand."""

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.training import AdversarialTrainingModel

# Appendix B of the reference: logits of class 0 before and after an attack.
CLEAN = np.array([[2.0, 1.0, 0.0, -1.0]])
ATTACKED = np.array([[0.5, 1.5, 0.0, -1.0]])


def of_logits(objective, clean, labels, attacked):
    """Returns losses, and their gradients with respect to both arrays of logits.

    Args:
        objective: The objective.
        clean: Logits `(batch, classes)`; one column is that of a sigmoid unit.
        labels: Their labels.
        attacked: The logits of the adversarial images.
    """
    units = np.shape(clean)[-1]
    net = keras.Sequential([keras.Input((1, 1, units)), keras.layers.Flatten()])
    model = AdversarialTrainingModel(net)
    if units == 1:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    elif np.ndim(labels) == 2:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    images = [
        tf.reshape(tf.constant(each, tf.float32), (-1, 1, 1, units))
        for each in (clean, attacked)
    ]
    with tf.GradientTape() as tape:
        tape.watch(images)
        losses, _, _ = objective(model, images[0], tf.constant(labels), images[1])
    gradients = tape.gradient(losses, images)
    return losses, *(tf.reshape(each, (-1, units)) for each in gradients)

"""TRADES as a user writes it, from the paper and `Objective`'s docstring alone."""

import keras
import tensorflow as tf

from keras_advdef.objectives import Objective


@keras.saving.register_keras_serializable(package="tests")
class Trades(Objective):
    """Cross-entropy on clean images plus 6 KL(clean || adversarial)."""

    inner_loss = "kl"
    inner_start = "gaussian"

    def __call__(self, model, images, labels, adversarial):
        clean = model(images, training=True)
        outputs = model(adversarial, training=True)
        wanted = tf.nn.log_softmax(model.logits_of(clean))
        found = tf.nn.log_softmax(model.logits_of(outputs))
        divergence = tf.reduce_sum(tf.exp(wanted) * (wanted - found), axis=-1)
        return model.example_losses(labels, clean) + 6.0 * divergence, clean, outputs

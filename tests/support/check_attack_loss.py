"""The contract of every attack loss."""

import json

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.models import AveragingEnsemble
from tests.support.check_attack import inside
from tests.support.nets import small_net


def check_attack_loss(cls, arguments, images, labels) -> None:
    """Puts one attack loss through the contract on `[0, 1]` images.

    The attacked model is an ensemble, so that losses on its members work as well.
    """
    _check_config(cls, arguments)
    loss = cls(**arguments)
    logits_fn = LogitsFunction(AveragingEnsemble([small_net(), small_net()]))
    labels = tf.constant(labels, tf.int32)
    images = tf.constant(images)
    reference = loss.prepare(logits_fn, images, labels, tf.constant(0))
    moved = tf.clip_by_value(images + 0.05 * tf.sign(images - 0.5), 0, 1)
    _check_values(loss, logits_fn, moved, labels, reference)
    _check_order(loss, logits_fn, images, moved, labels)
    _check_in_attack(loss, logits_fn.model, images, labels)


def _check_config(cls, arguments) -> None:
    config = keras.saving.serialize_keras_object(cls(**arguments))
    copy = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(copy) is cls
    assert keras.saving.serialize_keras_object(copy) == config


def _check_values(loss, logits_fn, images, labels, reference) -> None:
    losses, logits, gradient = input_gradient(
        lambda x: loss.with_logits(logits_fn, x, labels, reference), images
    )
    assert losses.shape == labels.shape
    assert losses.dtype == "float32"
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(logits, logits_fn(images), rtol=1e-5)
    alone = loss(logits_fn, images, labels, reference)
    np.testing.assert_allclose(losses, alone, rtol=1e-4, atol=1e-6)
    assert np.isfinite(gradient).all()
    for each in gradient:
        assert np.any(each != 0), "an image without a gradient"
    compiled = tf.function(lambda x: loss(logits_fn, x, labels, reference))
    np.testing.assert_allclose(compiled(images), alone, rtol=1e-4, atol=1e-6)


def _check_order(loss, logits_fn, images, moved, labels) -> None:
    """The loss of an image does not depend on the rest of its batch."""

    def losses(order):
        clean, goal = tf.gather(images, order), tf.gather(labels, order)
        reference = loss.prepare(logits_fn, clean, goal, tf.constant(0))
        return loss(logits_fn, tf.gather(moved, order), goal, reference)

    order = np.random.default_rng(0).permutation(len(labels))
    ordered = tf.gather(losses(np.arange(len(labels))), order)
    np.testing.assert_allclose(losses(order), ordered, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses(order[:2]), ordered[:2], rtol=1e-4, atol=1e-6)


def _check_in_attack(loss, model, images, labels) -> None:
    attack = PGD(0.1, steps=3, loss=loss, random_start=True)
    found = attack(model, images, labels, seed=1).numpy()
    assert inside(found, images, 0.1, "linf")
    assert np.any(found != images)
    np.testing.assert_array_equal(found, attack(model, images, labels, seed=1))

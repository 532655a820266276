"""The contract of every objective."""

import json

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.core.cards import card_of
from keras_advdef.models import AveragingEnsemble
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net, sparse_loss


def check_objective(cls, arguments, images, labels) -> None:
    """Puts one objective class through the contract."""
    objective = cls(**arguments)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(objective)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == objective.get_config() == arguments | copy.get_config()

    model = AdversarialTrainingModel(_net(cls), FGSM(0.1), objective)
    model.compile(keras.optimizers.SGD(0.1), sparse_loss())
    adversarial = tf.clip_by_value(images + 0.1, 0, 1)
    with tf.GradientTape() as tape:
        losses, clean, outputs = objective(model, images, labels, adversarial)
        total = tf.reduce_sum(losses)
    assert losses.shape == (len(images),)
    assert losses.dtype == "float32"
    assert np.isfinite(losses).all()
    for each in (clean, outputs):
        assert each is None or each.shape == (len(images), 3)
    gradients = tape.gradient(total, model.trainable_weights)
    assert all(np.any(gradient != 0) for gradient in gradients)

    order = np.random.default_rng(0).permutation(len(images))
    permuted = objective(
        model, images[order], labels[order], tf.gather(adversarial, order)
    )
    np.testing.assert_allclose(permuted[0], tf.gather(losses, order), atol=1e-6)
    _check_weights(cls, arguments, images, labels)
    if not _needs_members(cls):
        _check_heads(cls, arguments, images, labels)


def _needs_members(cls) -> bool:
    card = card_of(cls)
    return card is not None and card.category == "ensemble"


def _net(cls) -> keras.Model:
    if _needs_members(cls):
        return AveragingEnsemble([small_net(), small_net()])
    return small_net()


def _check_weights(cls, arguments, images, labels) -> None:
    """An image of weight zero does not matter."""
    model = AdversarialTrainingModel(_net(cls), FGSM(0.1), cls(**arguments), seed=1)
    model.compile(keras.optimizers.SGD(0.1), sparse_loss())
    before, results = model.get_weights(), []
    for labels_here in (labels, np.where(np.arange(len(labels)) == 0, 2, labels)):
        model.set_weights(before)
        weights = np.ones(len(images))
        weights[0] = 0.0
        model.fit(images, labels_here, sample_weight=weights, verbose=0, shuffle=False)
        results.append(model.classifier.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def _check_heads(cls, arguments, images, labels) -> None:
    """A softmax head gives the losses of the logits behind it."""
    nets = {head: small_net(head=head) for head in (None, "softmax")}
    nets["softmax"].set_weights(nets[None].get_weights())
    found = []
    for head, net in nets.items():
        objective = cls(**arguments)
        model = AdversarialTrainingModel(net, FGSM(0.1), objective)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=head is None)
        model.compile("sgd", loss)
        losses, _, _ = objective(model, images, labels, images[:, ::-1])
        found.append(losses)
    np.testing.assert_allclose(*found, rtol=1e-3)

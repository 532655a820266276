import numpy as np
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.attacks.losses import MemberDLR
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.losses import DifferenceOfLogitsRatio
from keras_advdef.models import AveragingEnsemble
from tests.support.nets import small_net


def test_it_is_the_mean_of_the_members_ratios(images, labels):
    ensemble = AveragingEnsemble([small_net(), small_net()])
    got = MemberDLR()(LogitsFunction(ensemble), tf.constant(images), labels)
    ratio = DifferenceOfLogitsRatio(reduction=None)
    expected = [ratio(labels, each(images)).numpy() for each in ensemble.members]
    np.testing.assert_allclose(got, np.mean(expected, axis=0), rtol=1e-5)


def test_a_single_classifier_has_its_own_ratio(net, images, labels):
    ensemble = AveragingEnsemble([net, small_net()])
    ensemble.members = [net]
    got = MemberDLR()(LogitsFunction(ensemble), tf.constant(images), labels)
    expected = DifferenceOfLogitsRatio(reduction=None)(labels, net(images))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_gradient_survives_certain_members(images, labels):
    ensemble = AveragingEnsemble([small_net(), small_net()])
    for net in ensemble.members:
        net.layers[-1].kernel.assign(1e4 * net.layers[-1].kernel)
    right = ensemble.predict(images, verbose=0).argmax(axis=1)
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = MemberDLR()(LogitsFunction(ensemble), images, right)
    slopes = np.abs(tape.gradient(loss, images)).max(axis=(1, 2, 3))
    assert (slopes > 1e-3).all()


def test_attack_lowers_the_accuracy(digits, trained_net):
    ensemble = AveragingEnsemble([trained_net, small_net()])
    attack = PGD(0.3, steps=10, loss=MemberDLR())
    images, labels = digits.x_test[:40], digits.y_test[:40]
    found = attack.generate(ensemble, images, labels, verbose=0, seed=0)
    before, after = (
        (trained_net.predict(each, verbose=0).argmax(axis=1) == labels).mean()
        for each in (images, found)
    )
    assert after < before - 0.3

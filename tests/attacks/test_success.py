import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._success import (
    confirm,
    is_broken,
    needs_confirmation,
    stronger,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers import RandomNoise
from tests.support.nets import small_net


def test_random_and_rounded_models_need_it(net):
    assert not needs_confirmation(LogitsFunction(net))
    assert needs_confirmation(LogitsFunction(net, precision="bfloat16"))
    noisy = small_net(front=[RandomNoise(0.1)])
    assert needs_confirmation(LogitsFunction(noisy))


def test_deterministic_success_is_what_the_model_says(net, images):
    predicted = np.argmax(net(images), axis=-1)
    logits_fn, key = LogitsFunction(net), make_key(0)
    for targeted in (False, True):
        held = confirm(logits_fn, images, predicted, key, targeted=targeted)
        assert held.numpy().tolist() == [targeted] * 6


def test_draws_are_averaged():
    # Logit 0 against noise of deviation one around .5: a single draw is wrong in
    # three cases of ten, the mean of 50 draws hardly ever.
    inputs = keras.Input((1, 1, 1))
    flat = keras.layers.Flatten()(RandomNoise(0.3)(inputs))
    head = keras.layers.Dense(2)
    net = keras.Model(inputs, head(flat))
    head.set_weights([np.array([[0.0, 1.0]]), np.array([0.5, 0.0])])
    images = tf.fill((1, 1, 1, 1), 0.35)

    @tf.function(autograph=False)
    def held(key, samples):
        return confirm(
            LogitsFunction(net),
            images,
            tf.constant([0]),
            key,
            targeted=False,
            samples=samples,
        )

    wrong = {
        samples: np.mean([held(make_key(seed), samples) for seed in range(40)])
        for samples in (1, 50)
    }
    assert wrong[1] > 0.1
    assert wrong[50] < 0.05


def test_success_first_then_loss():
    # Per image: new success of lower loss; old success of lower loss; both broken and
    # new larger; neither broken and new smaller.
    new = tf.ones((4, 1)), tf.constant([0.1, 0.9, 0.9, 0.1]), [True, False, True, False]
    old = tf.zeros((4, 1)), tf.constant([0.5] * 4), [False, True, True, False]
    new, old = (
        (images, losses, tf.constant(broken)) for images, losses, broken in (new, old)
    )
    images, losses, broken = stronger(new, old)
    np.testing.assert_array_equal(images[:, 0], [1, 0, 1, 0])
    np.testing.assert_allclose(losses, [0.1, 0.5, 0.9, 0.5])
    np.testing.assert_array_equal(broken, [True, True, True, False])


def test_is_broken():
    probabilities = tf.constant([[0.6, 0.4], [0.4, 0.6]])
    labels = tf.constant([0, 0])
    np.testing.assert_array_equal(
        is_broken(probabilities, labels, False), [False, True]
    )
    np.testing.assert_array_equal(is_broken(probabilities, labels, True), [True, False])

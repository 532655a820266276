import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in, make_key, normal
from keras_advdef.training.wasserstein_gan import (
    critic_losses,
    generated_images,
    scores,
)

SHAPE = (2, 2, 1)


@pytest.fixture
def nets():
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(4, activation="sigmoid")
    generator = keras.Sequential(
        [keras.Input((3,)), dense, keras.layers.Reshape(SHAPE)]
    )
    critic = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    return generator, critic


def test_images_are_the_generators_of_normal_latents(nets):
    key = make_key(1)
    found = generated_images(nets[0], 4, key, training=False)
    np.testing.assert_allclose(found, nets[0](normal(key, [4, 3])), rtol=1e-6)


def test_scores_are_one_for_each_image(nets):
    images = np.random.default_rng(0).uniform(size=(4, *SHAPE))
    found = scores(nets[1], images, training=False)
    np.testing.assert_allclose(found, nets[1](images)[:, 0], rtol=1e-6)


def test_losses_of_a_linear_critic_by_hand(nets):
    generator, critic = nets
    images = np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype("float32")
    key = make_key(2)
    found = critic_losses(
        generator, critic, tf.constant(images), key, weight=10.0, training=True
    )
    made = generator(normal(fold_in(key, 0), [5, 3]))
    distance = np.mean(critic(images)) - np.mean(critic(made))
    penalty = (np.linalg.norm(critic.layers[-1].kernel) - 1) ** 2
    assert float(found["generated"]) == pytest.approx(np.mean(critic(made)), rel=1e-5)
    assert float(found["distance"]) == pytest.approx(distance, rel=1e-4)
    assert float(found["gradient_penalty"]) == pytest.approx(penalty, rel=1e-4)
    loss = 10.0 * penalty - distance
    assert float(found["critic_loss"]) == pytest.approx(loss, rel=1e-4)


def test_the_generator_gets_no_gradient_of_the_critics_loss(nets):
    generator, critic = nets
    images = tf.ones((3, *SHAPE))
    with tf.GradientTape() as tape:
        loss = critic_losses(
            generator, critic, images, make_key(0), weight=1.0, training=True
        )["critic_loss"]
    kernels = [net.trainable_weights[0].value for net in nets]
    of_generator, of_critic = tape.gradient(loss, kernels)
    assert of_generator is None
    assert np.abs(of_critic).max() > 0

import numpy as np
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.evaluation._plan.without_class import WithoutClass


def test_is_the_cross_entropy_of_the_others():
    logits = tf.constant([[1.0, 2.0, 0.5, 9.0], [0.0, 0.0, 1.0, -9.0]])
    labels = tf.constant([1, 2])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = WithoutClass().from_logits(logits, labels, None)
    others = logits.numpy()[:, :3]
    own = others[[0, 1], labels]
    expected = np.log(np.exp(others).sum(axis=1)) - own
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    slope = tape.gradient(losses, logits).numpy()
    assert (slope[:, 3] == 0.0).all()
    assert (slope[:, :3] != 0.0).all()


def test_moves_towards_others():
    """The first pixel leads to the last class alone, the second to class 1."""

    def model(images):
        first, second = tf.unstack(images[:, :, 0, 0], axis=1)
        return tf.stack([tf.fill(tf.shape(first), 0.5), second, 1.1 * first], axis=1)

    images, labels = np.full((1, 2, 1, 1), 0.4, "float32"), [0]
    for loss, moved in (("cross_entropy", [0.7, 0.7]), (WithoutClass(), [0.4, 0.7])):
        attack = PGD(0.3, steps=5, loss=loss, random_start=False)
        found = attack.generate(model, images, labels, seed=0, verbose=0)
        np.testing.assert_allclose(found[0, :, 0, 0], moved, atol=1e-6)

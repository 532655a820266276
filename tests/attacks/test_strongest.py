import numpy as np
import tensorflow as tf

from keras_advdef.attacks._strongest import is_broken, keep_best, stronger


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


def test_remember_updates_the_best_only():
    state = {
        "iterate": tf.ones((1, 1)),
        "best": tf.zeros((1, 1)),
        "best_loss": tf.zeros(1),
        "broken": tf.constant([False]),
        "other": 3,
    }
    new = keep_best(state, tf.constant([2.0]), tf.constant([False]))
    assert (new["best"].numpy().item(), new["best_loss"].numpy().item()) == (1.0, 2.0)
    assert (new["other"], state["best"].numpy().item()) == (3, 0.0)


def test_is_broken():
    probabilities = tf.constant([[0.6, 0.4], [0.4, 0.6]])
    labels = tf.constant([0, 0])
    np.testing.assert_array_equal(
        is_broken(probabilities, labels, False), [False, True]
    )
    np.testing.assert_array_equal(is_broken(probabilities, labels, True), [True, False])

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import MinimalAttack
from tests.support.nets import linear_net
from tests.support.razors import RANGES, razor


class Shift(MinimalAttack):
    """Moves the second pixel up by a constant."""

    def __init__(self, epsilon=None, *, by=0.5, **kwargs):
        super().__init__(epsilon, norm="l2", **kwargs)
        self.by = by

    def look_for(self, logits_fn, images, labels, epsilon, seed):
        moved = tf.reshape(tf.constant([0.0, self.by]), (1, 2, 1, 1))
        return images + moved if self.by else images


@pytest.fixture
def net():
    return linear_net(np.eye(2), np.zeros(2))


X = np.array([[0.6, 0.2], [0.9, 0.1], [0.1, 0.4]], "float32").reshape(3, 2, 1, 1)


def test_finds_and_measures(net):
    found = Shift().search(net, X, [0, 0, 0], seed=0, verbose=0)
    # The first crosses, the second does not, the third is wrong as it is.
    assert found.success.tolist() == [True, False, True]
    np.testing.assert_allclose(found.norms, [0.5, np.inf, 0.0], atol=1e-6)
    np.testing.assert_array_equal(found.images[1:], X[1:])


def test_beyond_epsilon_the_clean_image_comes_back(net):
    found = Shift(0.4).search(net, X, [0, 0, 0], seed=0, verbose=0)
    assert found.success.tolist() == [False, False, True]
    np.testing.assert_array_equal(found.images, X)
    overridden = Shift(0.4).generate(net, X, [0] * 3, epsilon=0.6, verbose=0)
    assert np.abs(overridden - X).max() == pytest.approx(0.5)


def test_in_a_graph(net):
    attack = Shift()
    images, labels = tf.constant(X), tf.constant([0, 0, 0])
    key = tf.constant([0, 0])
    function = tf.function(
        lambda: attack.found(
            attack.logits_function(net), images, labels, attack.radius(None), key
        ),
        autograph=False,
    )
    assert function().success.numpy().tolist() == [True, False, True]


def test_targets(net):
    attack = Shift(targeted=True)
    found = attack.search(net, X, target_labels=[1, 1, 1], seed=0, verbose=0)
    assert found.success.tolist() == [True, False, True]


def test_labels_default_to_the_predictions(net):
    found = Shift().search(net, X, seed=0, verbose=0)
    assert found.success.tolist() == [True, False, False]


def test_units_of_the_range(net):
    def wide(images):
        return net(images / 255)

    attack = Shift(value_range=(0, 255))
    found = attack.search(wide, 255 * X, [0, 0, 0], seed=0, verbose=0)
    np.testing.assert_allclose(found.norms, [127.5, np.inf, 0.0], atol=1e-3)


def test_base_says_what_to_write():
    with pytest.raises(NotImplementedError, match="must write `look_for`"):
        MinimalAttack.look_for(Shift(), None, None, None, None, None)


@pytest.mark.parametrize("value_range", RANGES)
def test_success_is_that_of_the_returned_image(value_range):
    model, images = razor(value_range)
    attack = Shift(by=0.0, value_range=value_range)
    found = attack.search(model, images, [0] * 64, seed=0, batch_size=64, verbose=0)
    is_moved = (found.images != images).any(axis=(1, 2, 3))
    assert found.success.tolist() == is_moved.tolist()
    assert attack.predict(model, images, batch_size=64).tolist() == [0] * 64

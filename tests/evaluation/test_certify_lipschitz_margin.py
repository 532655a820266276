import keras
import numpy as np
import pytest

from keras_advdef.attacks import FAB, CarliniWagner, DeepFool
from keras_advdef.evaluation import certify_lipschitz_margin
from keras_advdef.surgery import parseval_network
from tests.support.nets import linear_net, small_net, sparse_loss


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(3)
    net = parseval_network(small_net(), beta=0.1)
    net.compile(keras.optimizers.Adam(0.02), sparse_loss())
    net.fit(10 * digits.x_train, digits.y_train, epochs=8, verbose=0)
    return net


def test_margin_by_hand():
    # Orthonormal rows: L is 1.
    net = linear_net([[0.6, 0.8], [-0.8, 0.6]], [0.0, 0.0])
    image = np.array([1.0, 1.0], "float32").reshape(1, 2, 1, 1)
    radii = certify_lipschitz_margin(net, image, [0])
    np.testing.assert_allclose(radii, [(1.4 + 0.2) / np.sqrt(2)], rtol=1e-4)
    np.testing.assert_array_equal(certify_lipschitz_margin(net, image, [1]), [0.0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        DeepFool(),
        FAB(steps=20, norm="l2"),
        CarliniWagner(steps=60, learning_rate=0.05, initial_constant=1.0),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_never_beyond_an_attack(attack, trained, digits):
    images, labels = digits.x_test[:40], digits.y_test[:40]
    attack = attack.replace(value_range=(0.0, 10.0))
    radii = certify_lipschitz_margin(trained, 10 * images, labels)
    found = attack.search(trained, 10 * images, labels, seed=0, verbose=0)
    assert (radii > 0).mean() > 0.8
    assert np.isfinite(found.norms).mean() > 0.8
    assert (radii <= found.norms * (1 + 1e-5)).all()


def test_constant_models_never_change():
    net = linear_net(np.zeros((2, 2)), [1.0, 0.0])
    radii = certify_lipschitz_margin(net, np.zeros((2, 2, 1, 1)), [0, 1])
    np.testing.assert_array_equal(radii, [np.inf, 0.0])


def test_models_without_a_bound_are_refused():
    net = keras.Sequential(
        [
            keras.Input((2, 1, 1)),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match="`certify_lipschitz_margin` expects `model`"):
        certify_lipschitz_margin(net, np.zeros((1, 2, 1, 1)), [0])

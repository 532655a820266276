import keras
import numpy as np
import pytest

from keras_advdef.layers import (
    VariationalConv2D,
    VariationalDense,
    VariationalDepthwiseConv2D,
)
from keras_advdef.surgery import to_variational
from tests.support.nets import small_net
from tests.support.surgery_nets import branched_images, branched_net


def test_means_are_the_weights():
    net, images = branched_net(), branched_images()
    bayesian = to_variational(net, kl_weight=1e-3, deterministic=True)
    assert isinstance(bayesian.get_layer("shared"), VariationalConv2D)
    assert isinstance(bayesian.get_layer("head"), VariationalDense)
    inside = bayesian.get_layer("block").layers[0]
    assert isinstance(inside, VariationalConv2D)
    assert inside.kl_weight == pytest.approx(1e-3)
    for one, other in zip(net(images), bayesian(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    # Four layers of which one has no bias: three kernels with a divergence.
    assert len(bayesian.losses) == 3


def test_draws_differ_and_weights_are_copied():
    net = small_net()
    before = net.get_weights()
    bayesian = to_variational(net, posterior_initializer=0.1, kl_weight=1e-3)
    images = np.ones((2, 8, 8, 1), "float32")
    assert not np.array_equal(bayesian(images), bayesian(images))
    bayesian.layers[0].kernel.assign(0.0 * bayesian.layers[0].kernel)
    for one, other in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_depthwise_and_subclasses():
    class Own(keras.layers.Dense):
        pass

    layers = [keras.layers.DepthwiseConv2D(3), keras.layers.Flatten(), Own(2)]
    net = keras.Sequential([keras.Input((5, 5, 2)), *layers])
    kinds = [type(layer) for layer in to_variational(net).layers]
    assert kinds == [VariationalDepthwiseConv2D, keras.layers.Flatten, Own]


def test_bad_input():
    net = keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(2.0)])
    with pytest.raises(ValueError, match="a model with a `Dense`"):
        to_variational(net)
    with pytest.raises(ValueError, match="prior_stddev"):
        to_variational(small_net(), prior_stddev=0.0)


@pytest.mark.parametrize("option", ["seed", "name", "activation"])
def test_what_would_be_that_of_every_layer_is_refused(option):
    match = f"expects `options` to be among posterior_initializer.*'{option}'"
    with pytest.raises(ValueError, match=match):
        to_variational(small_net(), **{option: 3})

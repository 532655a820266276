import keras
import numpy as np
import pytest

from keras_advdef.core.duplicate import compile_like, duplicate, uncompiled
from keras_advdef.layers import ImageQuilting
from tests.support.nets import small_net, sparse_loss


def normed_net(functional):
    norm = keras.layers.Normalization()
    norm.adapt(10.0 + np.random.default_rng(0).uniform(size=(4, 8, 8, 1)))
    inputs = keras.Input((8, 8, 1))
    layers = [norm, keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()]
    if not functional:
        return keras.Sequential([inputs, *layers])
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("functional", [False, True])
def test_copy_keeps_what_normalization_learnt(functional, images):
    net = normed_net(functional)
    copy = duplicate(net)
    np.testing.assert_allclose(copy(10.0 + images), net(10.0 + images), atol=1e-5)
    copy.set_weights([0.0 * each for each in copy.get_weights()])
    assert np.abs(net.get_weights()[3]).max() > 0


def test_copy_keeps_adapted_patches(images):
    quilting = ImageQuilting(patch_size=3, overlap=1, neighbors=1)
    quilting.adapt(images)
    net = keras.Sequential([keras.Input((8, 8, 1)), quilting])
    np.testing.assert_array_equal(duplicate(net)(images), net(images))


def test_nested_models_are_copied(images):
    net = keras.Sequential([keras.Input((8, 8, 1)), normed_net(False)])
    np.testing.assert_allclose(duplicate(net)(images), net(images), atol=1e-5)


def own_loss(labels, outputs):
    return keras.ops.mean((outputs[:, 0] - keras.ops.cast(labels, "float32")) ** 2)


def test_is_compiled_alike(images, labels):
    net = small_net()
    net.compile(keras.optimizers.Adam(0.01), sparse_loss(), metrics=["accuracy"])
    copy = duplicate(net)
    assert copy.optimizer is not net.optimizer
    assert float(copy.optimizer.learning_rate.numpy()) == pytest.approx(0.01)
    assert "accuracy" in copy.fit(images, labels, verbose=0).history


def test_a_loss_of_the_user_is_kept(images, labels):
    net = small_net()
    net.compile("sgd", own_loss)
    copy = duplicate(net)
    found, expected = (each.evaluate(images, labels, verbose=0) for each in (copy, net))
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_cannot_be_copied_is_left_out():
    net = small_net()
    net.compile("sgd", lambda labels, outputs: keras.ops.mean(outputs))
    assert not duplicate(net).compiled
    assert net.compiled
    assert compile_like(small_net(), small_net()).compiled is False


def test_uncompiled_ends_after_an_error():
    net = small_net()
    net.compile("sgd", "mse")
    seen = []

    def fail():
        with uncompiled(net):
            seen.append(net.compiled)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [False]
    assert net.compiled

import keras
import numpy as np
import pytest

from keras_advdef.core.keras_private import flat_layers
from keras_advdef.layers import RandomNoise
from keras_advdef.surgery import insert_noise
from tests.support.nets import small_net
from tests.support.surgery_nets import branched_images, branched_net


def noises(model):
    return [layer for layer in flat_layers(model) if isinstance(layer, RandomNoise)]


def test_where_and_how_much():
    net = small_net()
    noisy = insert_noise(net, first=0.3, inner=0.05)
    kinds = [type(layer).__name__ for layer in noisy.layers]
    assert kinds == [
        "RandomNoise",
        "Conv2D",
        "AveragePooling2D",
        "RandomNoise",
        "Conv2D",
        "GlobalAveragePooling2D",
        "Dense",
    ]
    assert [layer.stddev for layer in noises(noisy)] == [0.3, 0.05]
    images = np.zeros((2, 8, 8, 1), "float32")
    assert not np.array_equal(noisy(images), noisy(images))


def test_without_noise_it_is_the_same_net():
    net, images = branched_net(), branched_images()
    quiet = insert_noise(net, first=0.0, inner=0.0)
    for one, other in zip(net(images), quiet(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_branches():
    net = branched_net()
    noisy = insert_noise(net)
    # Once for the shared convolution and once for that of the nested net.
    assert sorted(layer.stddev for layer in noises(noisy)) == [0.1, 0.2]
    assert noises(net) == []
    images = branched_images()
    assert not np.array_equal(noisy(images)[0], noisy(images)[0])


def test_dtype_goes_along():
    net = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, dtype="mixed_float16")]
    )
    assert noises(insert_noise(net))[0].compute_dtype == "float16"


def test_bad_input():
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="a model with a convolution") as caught:
        insert_noise(dense)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="`insert_noise` expects `first`"):
        insert_noise(small_net(), first=-0.1)
    with pytest.raises(ValueError, match="`insert_noise` expects `inner`"):
        insert_noise(small_net(), inner="much")


def residual_net():
    """A block of a ResNet."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 1)(inputs)))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def resnet50():
    return keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=5)


@pytest.mark.parametrize(
    ("make", "count"),
    [(residual_net, 2), pytest.param(resnet50, 53, marks=pytest.mark.nightly)],
)
def test_residual_nets_are_served(make, count, tmp_path):
    net = make()
    noisy = insert_noise(net)
    assert len(noises(noisy)) == count
    assert {id(v) for v in net.trainable_variables} == {
        id(v) for v in noisy.trainable_variables
    }
    images = (
        np.random.default_rng(0)
        .uniform(size=(2, *net.input_shape[1:]))
        .astype("float32")
    )
    outputs = noisy.predict(images, verbose=0)
    np.testing.assert_allclose(outputs.sum(axis=1), 1.0, rtol=1e-5)
    noisy.export(tmp_path / "served", verbose=False)
    served = keras.layers.TFSMLayer(tmp_path / "served", call_endpoint="serve")
    first, second = np.array(served(images)), np.array(served(images))
    assert first.shape == (2, 5)
    assert not np.array_equal(first, second)


def test_names_are_new_in_a_model_that_was_loaded(tmp_path):
    net = keras.Sequential(
        [keras.Input((8, 8, 1)), RandomNoise(0.1), keras.layers.Conv2D(2, 3)]
    )
    net.save(tmp_path / "net.keras")
    # As in a new process, where Keras restarts its counts.
    keras.backend.clear_session()
    loaded = keras.models.load_model(tmp_path / "net.keras")
    assert len(noises(insert_noise(loaded))) == 2
    assert len(noises(insert_noise(insert_noise(loaded)))) == 3

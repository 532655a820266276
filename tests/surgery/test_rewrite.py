import keras
import numpy as np
import pytest

from keras_advdef.surgery import rewrite, split_activation
from tests.support.nets import small_net, sparse_loss
from tests.support.surgery_nets import Subclassed, branched_images, branched_net

Conv2D = keras.layers.Conv2D


@keras.saving.register_keras_serializable(package="tests")
class Double(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs


def doubled_before_convolutions(layer):
    return [Double(), layer] if isinstance(layer, Conv2D) else None


def halved_kernels(model):
    """A model with halved kernels; doubled inputs undo it."""
    for layer in model._flatten_layers():
        if isinstance(layer, Conv2D):
            layer.kernel.assign(layer.kernel / 2)
    return model


@pytest.fixture(scope="module")
def net():
    return branched_net()


def test_nothing_replaced_is_the_same_net(net):
    images = branched_images()
    before = net.predict(images, verbose=0)
    new = rewrite(net, lambda layer: None)
    assert new is not net
    assert new.name == net.name
    assert new.get_layer("block") is net.get_layer("block")
    for one, other in zip(before, new.predict(images, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_branches_nested_and_shared(net):
    images = branched_images()
    before = net.predict(images, verbose=0)
    new = halved_kernels(rewrite(net, doubled_before_convolutions, copy=True))
    names = [type(each).__name__ for each in new._flatten_layers()]
    # A shared layer and a shared net are rewritten once.
    assert names.count("Double") == 2
    assert names.count("Conv2D") == 2
    for one, other in zip(before, new.predict(images, verbose=0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_layers_are_used_again(net):
    new = rewrite(net, doubled_before_convolutions)
    old = {id(variable) for variable in net.variables}
    assert {id(variable) for variable in new.variables} == old
    assert new.get_layer("shared") is net.get_layer("shared")
    copied = rewrite(net, doubled_before_convolutions, copy=True)
    assert not {id(variable) for variable in copied.variables} & old
    for one, other in zip(copied.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rule_meets_layers_as_data_do(net):
    seen = []
    rewrite(net, lambda layer: seen.append(layer.name))
    assert len(seen) == len(set(seen))
    assert seen.index("shared") < seen.index("inside") < seen.index("features")
    assert seen[-1] == "head"


def test_saved_and_loaded(net, tmp_path):
    images = branched_images()
    new = rewrite(net, doubled_before_convolutions)
    wanted = new.predict(images, verbose=0)
    new.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    for one, other in zip(wanted, again.predict(images, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)
    # The old model shares its layers now, and is saved as before.
    net.save(tmp_path / "old.keras")
    old = keras.models.load_model(tmp_path / "old.keras")
    before = net.predict(images, verbose=0)
    for one, other in zip(before, old.predict(images, verbose=0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_split_activations_in_place(tmp_path):
    net = small_net()
    images = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype("float32")

    def between(layer):
        if not isinstance(layer, Conv2D):
            return None
        linear, activation = split_activation(layer)
        return [linear, keras.layers.Rescaling(-1.0), activation]

    new = rewrite(net, between)
    inner = keras.Sequential([keras.Input((8, 8, 1)), net.layers[0]])
    assert new.layers[0].kernel is net.layers[0].kernel
    assert inner.predict(images, verbose=0).min() == 0.0
    first = keras.Model(new.inputs, new.layers[2].output)
    linear = keras.Model(new.inputs, new.layers[0].output).predict(images, verbose=0)
    np.testing.assert_array_equal(
        first.predict(images, verbose=0), np.maximum(-linear, 0.0)
    )
    assert linear.min() < 0.0
    # Training the new net trains the old one's kernel.
    before = net.get_weights()[0]
    new.compile("sgd", sparse_loss(), jit_compile=False)
    new.fit(images, np.array([0, 1, 2, 0]), verbose=0)
    assert not np.array_equal(before, net.get_weights()[0])
    wanted = new.predict(images, verbose=0)
    new.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(wanted, again.predict(images, verbose=0))
    new.save_weights(tmp_path / "new.weights.h5")
    for variable in new.trainable_variables:
        variable.assign(0.0 * variable)
    new.load_weights(tmp_path / "new.weights.h5")
    np.testing.assert_array_equal(wanted, new.predict(images, verbose=0))
    new.export(tmp_path / "served", verbose=False)


def test_compiled_stays_compiled():
    net = small_net()
    net.compile("sgd", sparse_loss(), metrics=["accuracy"])
    new = rewrite(net, doubled_before_convolutions)
    images = np.zeros((2, 8, 8, 1), "float32")
    assert len(new.evaluate(images, np.zeros(2), verbose=0)) == 2


@pytest.mark.filterwarnings("ignore:.*does not have a `build:UserWarning")
def test_subclassed_is_refused():
    images = keras.Input((8, 8, 1))
    subclassed = Subclassed()
    with pytest.raises(ValueError, match=r"The order of the layers of `.*` is not"):
        rewrite(subclassed, doubled_before_convolutions)
    nested = keras.Model(images, subclassed(images))
    with pytest.raises(ValueError, match="layers of `hidden` is not known"):
        rewrite(nested, doubled_before_convolutions)
    with pytest.raises(ValueError, match="a built"):
        rewrite(keras.Sequential([Conv2D(2, 3)]), doubled_before_convolutions)
    with pytest.raises(TypeError, match=r"expects `model` to be a `keras.Model`"):
        rewrite(Conv2D(2, 3), doubled_before_convolutions)


def test_hidden_layer_is_refused():
    wrapped = keras.layers.TimeDistributed(Conv2D(2, 3, name="deep"))
    model = keras.Sequential([keras.Input((2, 8, 8, 1)), wrapped])
    with pytest.raises(ValueError, match=r"\(TimeDistributed\) hides `deep`"):
        rewrite(model, doubled_before_convolutions)
    rewrite(model, lambda layer: None)


def test_extra_arguments_reach_the_layer():
    inputs = keras.Input((8, 8, 1))
    normalized = keras.layers.BatchNormalization()(inputs, training=True)
    model = keras.Model(inputs, normalized)

    def rule(layer):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        return [Double(), layer] if is_norm else None

    new = rewrite(model, rule)
    images = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    # In training mode the batch is normalised at any scale.
    np.testing.assert_allclose(new(images), model(images), atol=2e-3)
    assert abs(float(np.std(new(images))) - 1.0) < 0.01

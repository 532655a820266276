import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers import ConvexCombination

CONTRACT = "it takes several inputs"


def test_is_the_mean_at_first_and_the_weighted_mean_then():
    layer = ConvexCombination()
    parts = [np.full((2, 3), value, "float32") for value in (0.0, 1.0, 5.0)]
    np.testing.assert_allclose(layer(parts), np.full((2, 3), 2.0), rtol=1e-6)
    layer.shares.assign([0.5, 0.25, 0.25])
    np.testing.assert_allclose(layer(parts), np.full((2, 3), 1.5), rtol=1e-6)


def test_shares_stay_on_the_simplex_in_training():
    inputs = keras.Input((4,))
    branches = [inputs, keras.layers.Dense(4)(inputs)]
    layer = ConvexCombination()
    model = keras.Model(inputs, layer(branches))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 4))
    model.fit(x, 2 * x, epochs=3, verbose=0)
    shares = layer.shares.numpy()
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1.0, abs=1e-5)
    assert abs(shares[0] - 0.5) > 1e-3


def test_enlarges_no_more_than_its_widest_branch():
    layer = ConvexCombination()
    layer([np.zeros((1, 4))] * 2)
    layer.shares.assign([0.3, 0.7])
    generator = np.random.default_rng(1)
    one, other = generator.normal(size=(2, 50, 4)).astype("float32")
    moved = layer([one, -one]) - layer([other, -other])
    assert np.all(np.linalg.norm(moved, axis=1) <= np.linalg.norm(one - other, axis=1))


def test_dtypes_saving_and_compiling(tmp_path):
    inputs = keras.Input((3,))
    layer = ConvexCombination(dtype="mixed_float16")
    model = keras.Model(inputs, layer([inputs, 2 * inputs]))
    layer.shares.assign([0.25, 0.75])
    x = np.ones((1, 3), "float32")
    assert model(x).dtype == tf.float16
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), copy(x))
    compiled = tf.function(model, jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(x)), model(x))


@pytest.mark.parametrize(
    "inputs",
    [np.zeros((2, 3)), [np.zeros((2, 3))], [np.zeros((2, 3)), np.zeros((2, 4))]],
    ids=["one tensor", "a list of one", "two shapes"],
)
def test_bad_inputs(inputs):
    with pytest.raises(ValueError, match="a list of at least two tensors"):
        ConvexCombination()(inputs)

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from keras_advdef.constraints import ProbabilitySimplex


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.2, 0.9], [0.15, 0.85]),
        ([1.5, -0.2], [1.0, 0.0]),
        ([0.3, 0.3, 0.9], [0.133333, 0.133333, 0.733333]),
        ([-1.0, 0.2, 2.0], [0.0, 0.0, 1.0]),
        ([7.0], [1.0]),
    ],
)
def test_projections_by_hand(given, expected):
    projected = ProbabilitySimplex()(tf.constant(given))
    np.testing.assert_allclose(projected, expected, atol=1e-6)


VECTORS = arrays.arrays(
    np.float32, st.integers(1, 8), elements=st.floats(-3, 3, width=32)
)


@hypothesis.given(VECTORS)
@hypothesis.settings(deadline=None, max_examples=60)
def test_is_a_point_of_the_simplex_and_stays(vector):
    simplex = ProbabilitySimplex()
    projected = simplex(tf.constant(vector)).numpy()
    assert (projected >= 0).all()
    assert projected.sum() == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(simplex(tf.constant(projected)), projected, atol=1e-5)


def test_is_the_nearest_point():
    generator = np.random.default_rng(0)
    for _ in range(5):
        vector = generator.normal(size=4)
        found = scipy.optimize.minimize(
            lambda z, target=vector: np.sum((z - target) ** 2),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda z: z.sum() - 1},
        )
        projected = ProbabilitySimplex()(tf.constant(vector, tf.float32))
        np.testing.assert_allclose(projected, found.x, atol=1e-3)


def test_each_row_for_itself_and_in_half_precision():
    rows = tf.constant([[0.2, 0.9], [1.5, -0.2]], tf.float16)
    projected = ProbabilitySimplex()(rows)
    assert projected.dtype == tf.float16
    np.testing.assert_allclose(projected, [[0.15, 0.85], [1.0, 0.0]], atol=2e-3)


def test_is_restored_with_a_layer():
    layer = keras.layers.Dense(2, bias_constraint=ProbabilitySimplex())
    copy = keras.layers.Dense.from_config(layer.get_config())
    assert isinstance(copy.bias_constraint, ProbabilitySimplex)

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers._bulk_random import polynomial, unit_log, unit_log1p
from tests.support.kernels import missing_kernels


def values():
    """Numbers of all sizes that float32 has below one."""
    exponents = np.random.default_rng(0).uniform(-37.9, 0.0, 20_000)
    edges = [1.0, 0.5, np.sqrt(0.5), np.nextafter(np.float32(1), np.float32(0))]
    return np.concatenate([10.0**exponents, edges]).astype(np.float32)


def test_unit_log():
    given = values()
    found = unit_log(given).numpy().astype(np.float64)
    np.testing.assert_allclose(found, np.log(given.astype(np.float64)), rtol=5e-7)
    assert found[20_000] == 0.0


def test_unit_log_of_zero_is_finite():
    assert -89.0 < float(unit_log(tf.constant(0.0))) < -87.0


def test_unit_log1p():
    given = -values()[1:]
    given = given[given > -1.0]
    found = unit_log1p(given).numpy().astype(np.float64)
    np.testing.assert_allclose(found, np.log1p(given.astype(np.float64)), rtol=1e-6)
    assert float(unit_log1p(tf.constant(0.0))) == 0.0
    assert -89.0 < float(unit_log1p(tf.constant(-1.0))) < -87.0


@pytest.mark.parametrize("function", [unit_log, lambda values: unit_log1p(-values)])
def test_equal_in_every_mode(function, in_every_mode):
    eager, graph, compiled = in_every_mode(function, tf.constant(values()[:1000]))
    np.testing.assert_array_equal(eager, graph)
    np.testing.assert_allclose(eager, compiled, rtol=5e-7, atol=1e-9)


@pytest.mark.parametrize("function", [unit_log, unit_log1p])
def test_stays_on_the_device(function):
    assert missing_kernels(function, tf.constant(values()[:1000])) == {}


def test_polynomial():
    coefficients = (3.0, 0.5, -1.0, 2.0)
    given = np.linspace(-2.0, 2.0, 9, dtype=np.float32)
    expected = np.polyval(coefficients, given)
    np.testing.assert_allclose(polynomial(coefficients, tf.constant(given)), expected)

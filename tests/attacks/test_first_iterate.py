import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._first_iterate import STARTS, first_iterate
from keras_advdef.core.random_numbers import make_key
from tests.support.check_attack import distance, inside

MIDDLE = np.full((400, 4, 4, 1), 0.5, "float32")


def _start(kind, epsilon=0.1, norm="linf", seed=0):
    return first_iterate(
        kind, tf.constant(MIDDLE), tf.constant(epsilon), norm=norm, key=make_key(seed)
    )


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", STARTS)
def test_starts_in_the_ball(kind, norm):
    assert inside(_start(kind, norm=norm), MIDDLE, 0.1, norm)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_unclipped_is_the_same_draw_as_clipped(norm):
    images, key = tf.zeros((400, 4, 4, 1)), make_key(0)
    clipped, whole = (
        first_iterate(kind, images, tf.constant(0.1), norm=norm, key=key).numpy()
        for kind in (True, "unclipped")
    )
    assert whole.min() < 0.0
    np.testing.assert_array_equal(clipped, np.clip(whole, 0.0, 1.0))


def test_surface_and_image():
    np.testing.assert_allclose(distance(_start("surface"), MIDDLE, "linf"), 0.1, 1e-5)
    np.testing.assert_array_equal(_start(False), MIDDLE)


def test_gaussian_has_a_thousandth_of_deviation():
    noise = _start("gaussian") - MIDDLE
    # 6400 draws: four standard errors of the deviation are .001 * 4 / sqrt(12800).
    assert np.std(noise) == pytest.approx(0.001, abs=3.6e-5)

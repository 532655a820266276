import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.attacks._guard import (
    check_clean,
    check_eager,
    finite_looks,
    given,
    given_or_predicted,
    kept_in_ball,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import norm_per_image, project, random_surface_point
from keras_advdef.core.random_numbers import make_key
from tests.support.kernels import missing_kernels

CLEAN = np.random.default_rng(0).uniform(size=(200, 4, 4, 3)).astype("float32")
RADII = {"linf": 0.1, "l2": 0.7, "l1": 3.0}


class TestKeptInBall:
    @pytest.mark.parametrize("norm", RADII)
    def test_leaves_the_surface_of_the_ball_to_the_bit(self, norm):
        epsilon = RADII[norm]
        clean = tf.constant(CLEAN.round(1))
        points = [random_surface_point(make_key(0), clean, epsilon, norm)]
        points.append(project(1.0 - clean, clean, epsilon, norm))
        for found in (each.numpy() for each in points):
            kept = kept_in_ball(tf.constant(found), clean, epsilon, norm)
            assert kept.numpy().tobytes() == found.tobytes()

    def test_leaves_the_sign_of_a_zero(self):
        clean = tf.zeros((1, 2))
        found = tf.constant([[-0.0, 1e-40]])
        kept = kept_in_ball(found, clean, 0.1, "linf").numpy()
        assert kept.tobytes() == found.numpy().tobytes()

    @pytest.mark.parametrize("jit", [False, True])
    @pytest.mark.parametrize("norm", RADII)
    def test_pulls_back_what_lies_outside(self, norm, jit):
        epsilon = RADII[norm]
        found = tf.constant(5.0 * (np.roll(CLEAN, 1, axis=0) - 0.5))
        call = tf.function(kept_in_ball, jit_compile=jit, autograph=False)
        kept = call(found, tf.constant(CLEAN), tf.constant(epsilon), norm).numpy()
        norms = norm_per_image(tf.constant(kept - CLEAN, tf.float64), norm)
        # On the way to the clean image nothing is lost but what is too much.
        np.testing.assert_allclose(norms, epsilon, rtol=1e-5)
        assert kept.min() >= 0.0
        assert kept.max() <= 1.0

    def test_a_count_too_large_is_the_clean_image(self):
        clean = tf.zeros((2, 3))
        found = tf.constant([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
        kept = kept_in_ball(found, clean, 2.0, "l0").numpy()
        assert kept.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]

    @pytest.mark.parametrize("jit", [False, True])
    @pytest.mark.parametrize("norm", [*RADII, "l0"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_one_value_that_is_no_number(self, norm, value, jit):
        found = CLEAN.copy()
        found[3, 1, 1, 1] = value
        call = tf.function(kept_in_ball, jit_compile=jit, autograph=False)
        kept = call(tf.constant(found), tf.constant(CLEAN), 0.1, norm).numpy()
        rest = np.arange(len(CLEAN)) != 3
        np.testing.assert_array_equal(kept[rest], CLEAN[rest])
        assert np.isfinite(kept).all()
        norms = norm_per_image(tf.constant(kept - CLEAN), norm)
        assert float(norms[3]) <= 0.1 * (1 + 1e-5)

    def test_a_radius_that_is_no_number_gives_clean_images(self):
        found = tf.constant(1.0 - CLEAN)
        kept = kept_in_ball(found, tf.constant(CLEAN), np.float32(np.nan), "l2")
        np.testing.assert_array_equal(kept, CLEAN)

    def test_no_radius_at_all(self):
        found = tf.constant(1.0 - CLEAN)
        kept = kept_in_ball(found, tf.constant(CLEAN), np.float32(np.inf), "l2")
        np.testing.assert_array_equal(kept, found)

    @pytest.mark.parametrize("norm", [*RADII, "l0"])
    def test_runs_where_the_attack_does(self, norm):
        images = tf.constant(CLEAN)
        assert not missing_kernels(
            lambda found, clean: kept_in_ball(found, clean, 0.1, norm), images, images
        )


LOGITS = LogitsFunction(lambda images: tf.math.log(images[:, 0, :2, 0]))


def test_finite_looks_takes_those_of_the_attacked_model_alone():
    logits = tf.constant([[0.0, np.inf], [0.0, 1.0]])
    other = LogitsFunction(lambda images: images)
    assert finite_looks(LOGITS, [(other, logits)]) is None
    found = finite_looks(LOGITS, [(other, logits[1:]), (LOGITS, logits)])
    assert found.numpy().tolist() == [False, True]


def test_check_clean_looks_where_nobody_did():
    images = np.full((3, 4, 4, 1), 0.5, "float32")
    check_clean(FGSM(0.1), LOGITS, tf.constant(images), make_key(0), [])
    images[2, 0] = 0.0
    with pytest.raises(ValueError, match="for image 2"):
        check_clean(FGSM(0.1), LOGITS, tf.constant(images), make_key(0), [])


_ROWS = np.array([[0.25, 0.75]], "float32")


def test_given_is_rows_only_where_the_loss_takes_them():
    np.testing.assert_array_equal(given(FGSM(0.1), _ROWS), _ROWS)
    assert given(FGSM(0.1, loss="margin"), _ROWS).numpy().tolist() == [1]


def test_given_or_predicted(net, images):
    logits_fn, key = LogitsFunction(net), make_key(0)
    found = given_or_predicted(FGSM(0.1), logits_fn, tf.constant(images), None, key)
    np.testing.assert_array_equal(found, np.argmax(net(images), axis=-1))
    known = given_or_predicted(FGSM(0.1), logits_fn, images[:1], [2], key)
    assert known.numpy().tolist() == [2]


def test_check_eager(images):
    attack = FGSM(0.1)
    check_eager(attack, tf.constant(images), None, None)
    with pytest.raises(ValueError, match=r"`FGSM` expects `images`.*value range"):
        check_eager(attack, tf.constant(255 * images), None, None)
    with pytest.raises(ValueError, match="rows that sum to 1"):
        check_eager(attack, tf.constant(images), np.ones((6, 3)), None)


def test_an_eager_call_tells_of_an_epsilon_of_another_range(net, images):
    attack, pixels = FGSM(8 / 255, value_range=(0, 255)), tf.constant(255 * images)
    labels = [0] * len(images)
    with pytest.warns(UserWarning, match="Did you mean 8, in the units of the pixels"):
        attack(net, pixels, labels)
    with pytest.warns(UserWarning, match="Did you mean 16, in the units"):
        attack(net, pixels, labels, epsilon=16 / 255)
    # Warnings are errors here: what is meant is not told of.
    attack(net, pixels, labels, epsilon=8)
    attack(net, pixels, labels, epsilon=tf.constant(8.0))

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._decisions import decides, first_points, to_boundary
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key, uniform
from keras_advdef.core.random_state import scope_key
from tests.support.kernels import missing_kernels
from tests.support.nets import linear_net


def first_pixel(images):
    """Class 1 where the first pixel is above a half; logits without gradient."""
    return tf.one_hot(tf.cast(images[:, 0, 0, 0] > 0.5, tf.int32), 3, 7.0)


FIRST_PIXEL = LogitsFunction(first_pixel)
CONSTANT = LogitsFunction(lambda images: tf.zeros((tf.shape(images)[0], 3)))


DUAL = {"l2": 2, "linf": 1, "l1": np.inf}


def halfspace(pixels=16, margin=0.4):
    """A linear net, images that it gives class 0, and their distance by norm."""
    generator = np.random.default_rng(3)
    weights = generator.normal(size=pixels) + 0.3
    images = generator.uniform(0.4, 0.6, (4, pixels)).astype("float32")
    bias = -(np.max(images @ weights) + margin)
    margins = -(images @ weights + bias)
    net = linear_net(np.stack([0 * weights, weights]), [0.0, bias], (pixels, 1, 1))
    exact = {n: margins / np.linalg.norm(weights, DUAL[n]) for n in DUAL}
    return net, images.reshape(-1, pixels, 1, 1), exact


def one_hot_of(net):
    """The decisions of a net as logits, without gradient."""
    return lambda images: tf.one_hot(tf.argmax(net(images), -1), 2, 9.0)


class TestDecides:
    def test_leaves_labels_or_reaches_targets(self):
        images = tf.reshape([0.2, 0.9, 0.2, 0.9], (4, 1, 1, 1))
        labels = tf.constant([0, 0, 1, 1])
        decide = functools.partial(
            decides, FIRST_PIXEL, images, make_key(0), labels=labels
        )
        assert decide(targeted=False).numpy().tolist() == [False, True, True, False]
        assert decide(targeted=True).numpy().tolist() == [True, False, False, True]

    def test_takes_several_batches_at_once(self):
        images = tf.reshape([0.2, 0.9, 0.9, 0.2, 0.2, 0.2], (6, 1, 1, 1))
        labels = tf.constant([0, 1])
        wanted = decides(
            FIRST_PIXEL, images, make_key(0), labels=labels, targeted=False
        )
        assert wanted.numpy().tolist() == [False, False, True, True, False, True]

    def test_random_models_draw_from_the_key(self):
        def coin(images):
            side = uniform(scope_key(), [tf.shape(images)[0]]) > 0.5
            return tf.one_hot(tf.cast(side, tf.int32), 2, 7.0)

        def decide(seed):
            return decides(
                LogitsFunction(coin),
                tf.zeros((50, 1, 1, 1)),
                make_key(seed),
                labels=tf.zeros(50, tf.int64),
                targeted=False,
            ).numpy()

        np.testing.assert_array_equal(decide(1), decide(1))
        assert np.any(decide(1) != decide(2))


class TestFirstPoints:
    def test_noise_leaves_the_label(self, images):
        labels = tf.cast(images[:, 0, 0, 0] > 0.5, tf.int64)
        start = functools.partial(
            first_points,
            FIRST_PIXEL,
            tf.constant(images),
            labels,
            make_key(0),
            targeted=False,
        )
        points, found = start(tries=50)
        assert found.numpy().all()
        assert np.all(first_pixel(points).numpy().argmax(-1) != labels)
        # The first try is uniform: a quarter of the pixels lies below a quarter.
        points, found = start(tries=1)
        below = np.mean(points.numpy()[found.numpy()] < 0.25)
        assert below == pytest.approx(0.25, abs=0.1)

    def test_noise_of_another_brightness_follows(self, images):
        def dark(each):
            share = tf.reduce_mean(tf.cast(each > 0.5, tf.float32), [1, 2, 3])
            return tf.one_hot(tf.cast(share < 0.2, tf.int32), 2, 7.0)

        # Of 64 uniform pixels a fifth or less is bright once in a million draws.
        points, found = first_points(
            LogitsFunction(dark),
            tf.constant(images),
            tf.zeros(6, tf.int64),
            make_key(0),
            targeted=False,
            tries=60,
        )
        assert found.numpy().all()
        assert set(np.unique(points)) == {0.0, 1.0}

    def test_the_first_try_that_succeeds_counts_for_each_image(self, images):
        images = tf.constant(images)
        labels = tf.cast(images[:, 0, 0, 0] > 0.5, tf.int64)
        few, many = (
            first_points(
                FIRST_PIXEL, images, labels, make_key(0), targeted=False, tries=tries
            )
            for tries in (1, 50)
        )
        early = few[1].numpy()
        assert 0 < early.sum() < len(early)
        np.testing.assert_array_equal(few[0][early], many[0][early])
        np.testing.assert_array_equal(few[0][~early], images[~early])

    def test_nothing_is_found_in_a_constant_model(self, images):
        points, found = first_points(
            CONSTANT,
            tf.constant(images),
            tf.zeros(6, tf.int64),
            make_key(0),
            targeted=False,
            tries=3,
        )
        assert not found.numpy().any()
        np.testing.assert_array_equal(points, images)

    def test_targets_start_from_the_nearest_image_of_the_class(self):
        images = np.full((4, 2, 2, 1), 0.3, "float32")
        images[1:, 0, 0, 0] = 0.6, 0.9, 0.4
        images[1, 1, 1, 0] = 1.0
        # Distances of image 0 to those of class 1: (.3, .7) and (.6, 0).
        points, found = first_points(
            FIRST_PIXEL,
            tf.constant(images),
            tf.ones(4, tf.int64),
            make_key(0),
            targeted=True,
            tries=1,
        )
        assert found.numpy().all()
        np.testing.assert_array_equal(points, images[[2, 1, 2, 2]])

    def test_targets_that_no_image_shows_are_looked_for_in_noise(self):
        images = tf.fill((4, 2, 2, 1), 0.3)
        points, found = first_points(
            FIRST_PIXEL,
            images,
            tf.constant([1, 1, 1, 2]),
            make_key(0),
            targeted=True,
            tries=50,
        )
        assert found.numpy().tolist() == [True, True, True, False]
        assert np.all(points[:3, 0, 0, 0] > 0.5)
        np.testing.assert_array_equal(points[3], images[3])

    @pytest.mark.parametrize("targeted", [False, True])
    def test_runs_on_a_gpu_and_under_xla(self, targeted, images):
        many = tf.constant(np.concatenate([images] * 20))
        labels = tf.constant([0, 1] * 60, tf.int64)
        start = functools.partial(first_points, FIRST_PIXEL, targeted=targeted, tries=9)
        assert missing_kernels(start, many, labels, make_key(0)) == {}
        eager = start(many, labels, make_key(0))
        compiled = tf.function(start, jit_compile=True, autograph=False)
        for one, other in zip(eager, compiled(many, labels, make_key(0)), strict=True):
            np.testing.assert_array_equal(one, other)


class TestToBoundary:
    @pytest.mark.parametrize("halvings", [3, 12])
    def test_l2_stops_within_the_last_bracket(self, halvings):
        # On the way from .1 to .9 the threshold .37 lies at (.37 - .1) / .8.
        images, points = tf.fill((1, 2, 2, 1), 0.1), tf.fill((1, 2, 2, 1), 0.9)
        found = to_boundary(
            lambda x, key: x[:, 0, 0, 0] > 0.37,
            images,
            points,
            make_key(0),
            norm="l2",
            halvings=halvings,
        ).numpy()
        assert found.min() > 0.37
        assert found.max() < 0.37 + 0.8 * 2.0**-halvings + 1e-6

    def test_linf_cuts_the_perturbation(self):
        images, points = (
            tf.zeros((1, 1, 3, 1)),
            tf.reshape([0.1, 0.6, 1.0], (1, 1, 3, 1)),
        )
        found = to_boundary(
            lambda x, key: x[:, 0, 2, 0] > 0.5,
            images,
            points,
            make_key(0),
            norm="linf",
            halvings=20,
        )
        np.testing.assert_allclose(tf.reshape(found, -1), [0.1, 0.5, 0.5], atol=1e-5)

    def test_l1_shrinks_all_values_by_the_same(self):
        images = tf.fill((1, 1, 4, 1), 0.5)
        points = tf.reshape([0.6, 0.2, 0.5, 1.0], (1, 1, 4, 1))
        found = to_boundary(
            lambda x, key: x[:, 0, 3, 0] > 0.8,
            images,
            points,
            make_key(0),
            norm="l1",
            halvings=20,
        )
        # By 0.2, which is more than the first pixel has.
        np.testing.assert_allclose(tf.reshape(found, -1), [0.5, 0.4, 0.5, 0.8], 1e-5)

    def test_each_image_has_its_own_bracket(self):
        images, points = tf.zeros((3, 1, 1, 1)), tf.ones((3, 1, 1, 1))
        threshold = tf.constant([0.2, 0.7, 2.0])
        found = to_boundary(
            lambda x, key: x[:, 0, 0, 0] > threshold,
            images,
            points,
            make_key(0),
            norm="l2",
            halvings=20,
        )
        # The last is never decided as wanted, and stays what it was.
        np.testing.assert_allclose(tf.reshape(found, -1), [0.2, 0.7, 1.0], atol=1e-5)

    def test_each_decision_has_its_own_key(self):
        keys = []

        def decide(points, key):
            keys.append(tuple(key.numpy()))
            return tf.ones(len(points), tf.bool)

        images = tf.zeros((1, 1, 1, 1))
        to_boundary(decide, images, images, make_key(0), norm="l2", halvings=8)
        assert len(set(keys)) == len(keys) == 8

import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._square_proposals import (
    moved_mass,
    recolored_square,
    side_length,
    stripes,
    tiles,
)
from keras_advdef.core.random_numbers import fold_in, make_key
from tests.support.check_attack import distance, inside
from tests.support.kernels import missing_kernels

FIRST = tf.constant(0.0)
# Stage by stage, the first proposal for which the square is smaller.
STARTS = [0.0, 11.0, 51.0, 201.0, 501.0, 1001.0, 2001.0, 4001.0]


def grey(count=1, size=8, channels=1):
    return tf.fill((count, size, size, channels), 0.5)


def propose(propose_one, start, images, epsilon, *, rounds=5, taken=FIRST):
    """The points that come one after the other if every proposal is taken."""
    points = [start(make_key(5), images, epsilon)]
    for index in range(rounds):
        key = fold_in(make_key(6), index)
        point = propose_one(key, images, points[-1], epsilon=epsilon, taken=taken)
        points.append(point)
    return [point.numpy() for point in points]


class TestSideLength:
    @pytest.mark.parametrize(
        ("size", "sides"),
        [(28, [25, 18, 13, 9, 6, 4, 3, 2]), (32, [29, 20, 14, 10, 7, 5, 4, 3])],
    )
    def test_is_that_of_autoattack(self, size, sides):
        starts, before = tf.constant(STARTS), tf.constant(STARTS[1:]) - 1.0
        reached = side_length(float(size), float(size), starts, "linf")
        assert reached.numpy().ravel().tolist() == sides
        reached = side_length(float(size), float(size), before, "linf")
        assert reached.numpy().ravel().tolist() == sides[:-1]

    def test_is_odd_and_at_least_three_in_l2(self):
        # As above, made odd: 25, 18 + 1, 13, 9, 6 + 1, 4 + 1, 3, 3 (from 2).
        found = side_length(28.0, 28.0, tf.constant(STARTS), "l2").numpy().ravel()
        assert found.tolist() == [25, 19, 13, 9, 7, 5, 3, 3]

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    @pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 4), (3, 40)])
    def test_fits_into_the_image(self, norm, shape):
        sides = side_length(*map(float, shape), tf.constant(STARTS), norm).numpy()
        assert 1 <= sides.min() <= sides.max() <= min(shape)


class TestStripes:
    def test_move_columns_and_channels_to_the_edge_of_the_ball(self):
        images = np.full((40, 8, 8, 3), 0.1, "float32")
        moved = stripes(make_key(0), tf.constant(images), tf.constant(0.25)).numpy()
        np.testing.assert_array_equal(moved, moved[:, :1].repeat(8, axis=1))
        np.testing.assert_allclose(np.unique(moved), [0.0, 0.35], atol=1e-6)
        # 960 coins: four standard deviations are 0.065.
        assert abs(np.mean(moved[:, 0] > 0.1) - 0.5) < 0.065


class TestRecoloredSquare:
    def test_is_a_square_of_one_colour_at_the_edge_of_the_ball(self):
        images = grey(30, size=10, channels=2)
        moved = recolored_square(
            make_key(1), images, images, epsilon=tf.constant(0.25), taken=FIRST + 51.0
        ).numpy()
        for image in moved:
            rows, cols = np.nonzero(np.any(image != 0.5, axis=-1))
            # sqrt(.8 / 4 * 100) = 4.47
            assert np.ptp(rows) + 1 == np.ptp(cols) + 1 == 4
            assert len(rows) == 16
            colours = image[rows, cols]
            np.testing.assert_array_equal(colours, colours[:1].repeat(16, axis=0))
            assert np.all(np.isin(colours, [0.25, 0.75]))

    def test_comes_everywhere_the_last_row_and_column_included(self):
        # Side 7 of 8 leaves two places on each axis, so four of them.
        images = grey(1000)
        moved = recolored_square(
            make_key(2), images, images, epsilon=tf.constant(0.25), taken=FIRST
        ).numpy()[..., 0]
        corner = (moved[:, 0] == 0.5).all(axis=1) * 2 + (moved[:, :, 0] == 0.5).all(1)
        counts = np.bincount(corner, minlength=4)
        # Four standard deviations of a binomial with p = 1/4 are 55.
        assert np.all(np.abs(counts - 250) < 55)

    def test_takes_colours_for_each_image_and_channel(self):
        images = grey(1000, channels=2)
        moved = recolored_square(
            make_key(3), images, images, epsilon=tf.constant(0.25), taken=FIRST
        ).numpy()
        up = moved[:, 4, 4] > 0.5
        counts = np.bincount(2 * up[:, 0] + up[:, 1], minlength=4)
        assert np.all(np.abs(counts - 250) < 55)

    def test_counts_for_each_image(self):
        images = grey(2, size=28)
        taken = tf.constant([0.0, 2001.0])
        moved = recolored_square(
            make_key(4), images, images, epsilon=tf.constant(0.25), taken=taken
        )
        changed = np.sum(moved.numpy() != 0.5, axis=(1, 2, 3))
        assert changed.tolist() == [25**2, 3**2]

    def test_takes_an_epsilon_for_each_image(self):
        images, epsilon = grey(2), tf.constant([0.1, 0.2])
        points = propose(recolored_square, stripes, images, epsilon)
        far = distance(points[-1], images, "linf")
        np.testing.assert_allclose(far, [0.1, 0.2], atol=1e-6)

    def test_stays_in_ball_and_box(self, images):
        corners = tf.constant(np.concatenate([images[:3].round(), images[3:]]))
        for point in propose(recolored_square, stripes, corners, tf.constant(0.2)):
            assert inside(point, corners, 0.2, "linf")
            assert point.min() >= 0
            assert point.max() <= 1


class TestTiles:
    @pytest.mark.parametrize("size", [5, 8, 28, 32])
    def test_share_the_norm_among_the_tiles(self, size):
        moved = tiles(make_key(0), grey(3, size=size), tf.constant(0.3)).numpy() - 0.5
        side = size // 5
        count = size // side
        start = (size - side * count) // 2
        kept = moved[:, start:, start:][:, : side * count, : side * count]
        energy = np.sum(kept.reshape(3, count, side, count, side) ** 2, axis=(2, 4))
        np.testing.assert_allclose(energy, 0.3**2 / count**2, rtol=1e-3)
        np.testing.assert_allclose(np.sum(moved**2, axis=(1, 2, 3)), 0.09, rtol=1e-4)

    def test_differ_in_sign_and_direction(self):
        moved = tiles(make_key(0), grey(40, size=15, channels=2), tf.constant(0.3))
        blocks = (moved.numpy() - 0.5).reshape(40, 5, 3, 5, 3, 2)
        corners = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 9)
        # Signs of the corners of an upright patch: + + - -, turned: + - + -.
        kinds = {tuple(each) for each in np.sign(corners[:, [0, 2, 6, 8]])}
        upright, turned = (1, 1, -1, -1), (1, -1, 1, -1)
        negative = {tuple(-np.array(each)) for each in (upright, turned)}
        assert kinds == {upright, turned, *negative}


class TestMovedMass:
    @pytest.mark.parametrize("size", [3, 4, 8, 28])
    @pytest.mark.parametrize("taken", [0.0, 51.0])
    def test_keeps_the_norm_where_the_box_is_far(self, size, taken):
        images = grey(4, size=size, channels=3)
        taken = tf.constant(taken)
        points = propose(moved_mass, tiles, images, tf.constant(0.3), taken=taken)
        for point in points:
            np.testing.assert_allclose(distance(point, images, "l2"), 0.3, rtol=1e-4)
        assert all(np.any(a != b) for a, b in itertools.pairwise(points))

    def test_stays_in_ball_and_box(self, images):
        corners = tf.constant(np.concatenate([images[:3].round(), images[3:]]))
        for point in propose(moved_mass, tiles, corners, tf.constant(1.5)):
            assert np.isfinite(point).all()
            assert inside(point, corners, 1.5, "l2")
            assert point.min() >= 0
            assert point.max() <= 1

    def test_leaves_the_rest_as_it_was(self):
        # Sides of 3 in 28: two windows change at most 18 pixels, one of them to zero.
        images, taken = grey(20, size=28), tf.constant(4001.0)
        first, second = propose(
            moved_mass, tiles, images, tf.constant(0.3), rounds=1, taken=taken
        )
        changed = np.abs(second - first).max(axis=-1) > 1e-6
        assert np.all(changed.sum(axis=(1, 2)) <= 18)
        assert np.all(changed.sum(axis=(1, 2)) >= 9)
        emptied = changed & (second[..., 0] == 0.5) & (first[..., 0] != 0.5)
        assert np.mean(emptied.sum(axis=(1, 2))) > 6

    def test_counts_for_each_image(self):
        images, epsilon = grey(2, size=28), tf.constant(0.3)
        start = tiles(make_key(0), images, epsilon)
        moved = moved_mass(
            make_key(1), images, start, epsilon=epsilon, taken=tf.constant([0.0, 4e3])
        )
        changed = np.sum(np.abs(moved - start) > 1e-6, axis=(1, 2, 3))
        assert changed[0] >= 400
        assert changed[1] <= 18

    @pytest.mark.parametrize("size", [1, 2])
    def test_stays_in_the_ball_where_no_patch_fits(self, size):
        images = grey(20, size=size)
        for point in propose(moved_mass, tiles, images, tf.constant(0.3)):
            assert np.isfinite(point).all()
            assert inside(point, images, 0.3, "l2")

    def test_of_nothing_is_nothing(self):
        for point in propose(moved_mass, tiles, grey(2), tf.constant(0.0)):
            np.testing.assert_array_equal(point, grey(2))


@pytest.mark.parametrize("one", [recolored_square, moved_mass])
def test_runs_wholly_on_a_gpu(one):
    def proposed(key, images, taken):
        return one(key, images, images, epsilon=0.3, taken=taken)

    count = tf.zeros(3)
    assert missing_kernels(proposed, make_key(0), grey(3, size=16), count) == {}

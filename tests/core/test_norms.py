import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_advdef.core.norms import (
    NORMS,
    keep_largest,
    norm_per_image,
    per_image,
    project,
    random_point,
    random_surface_point,
    shrink,
    steepest_step,
)
from keras_advdef.core.random_numbers import make_key

_LEAST_P = 1e-3
# A pixel in [0.5, 1] is rounded by at most 2^-25 when a perturbation is added.
_ROUNDING = 2.0**-25

_ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def _norms(perturbations, norm):
    """The reference: NumPy in float64."""
    flat = np.asarray(perturbations, np.float64).reshape(len(perturbations), -1)
    return np.linalg.norm(flat, _ORDERS[norm], axis=1)


def _generated(seed, shape=(3, 2, 3, 2)):
    generator = np.random.default_rng(seed)
    images = generator.uniform(size=shape).astype(np.float32)
    # Some pixels exactly on the border.
    images[generator.uniform(size=shape) < 0.1] = 0.0
    images[generator.uniform(size=shape) < 0.1] = 1.0
    candidate = images + generator.normal(size=shape).astype(np.float32)
    return images, candidate


_any_case = given(
    seed=st.integers(0, 2**31), norm=st.sampled_from(NORMS), epsilon=st.floats(0, 3)
)
_few = settings(max_examples=25, deadline=None, derandomize=True)


class TestPerImage:
    def test_scalar_stays_scalar(self):
        assert per_image(0.3, tf.zeros((3, 4, 4, 1))).shape == ()

    def test_vector_gets_the_rank_of_the_images(self):
        assert per_image([0.1, 0.2], tf.zeros((2, 4))).shape == (2, 1)
        assert per_image(tf.ones(2), tf.zeros((2, 4, 4, 1))).shape == (2, 1, 1, 1)

    def test_masks_choose_whole_images(self):
        images = tf.reshape(tf.range(8.0), (2, 2, 2, 1))
        mask = per_image(tf.constant([False, True]), images)
        chosen = tf.where(mask, images, 0.0)
        assert chosen.numpy().ravel().tolist() == [0, 0, 0, 0, 4, 5, 6, 7]


class TestNormPerImage:
    @pytest.mark.parametrize(("norm", "size"), [("linf", 4), ("l2", 5), ("l1", 7)])
    def test_by_hand(self, norm, size):
        # max(3, 4), sqrt(9 + 16) and 3 + 4.
        assert norm_per_image(tf.constant([[3.0, -4.0]]), norm).numpy() == [size]

    @_few
    @_any_case
    def test_matches_numpy(self, seed, norm, epsilon):
        _, perturbation = _generated(seed)
        size = norm_per_image(tf.constant(perturbation * epsilon), norm)
        expected = _norms(perturbation * np.float32(epsilon), norm)
        # Squares below the smallest float32 underflow.
        np.testing.assert_allclose(size, expected, rtol=1e-5, atol=1e-18)


def _exact_l1(candidate, image, epsilon):
    """Projects one flat image onto the l1 ball and the box, in float64.

    The size of the clipped soft threshold is piecewise linear and falling in the
    threshold, so it is interpolated between its breakpoints.
    """
    perturbation = np.asarray(candidate, np.float64) - np.asarray(image, np.float64)
    image = np.asarray(image, np.float64)
    size = np.abs(perturbation)
    room = np.where(perturbation > 0, 1.0 - image, image)

    def shrunk(threshold):
        return np.clip(size - threshold, 0.0, room)

    points = np.unique(np.maximum(0.0, np.concatenate([size, size - room, [0.0]])))
    sizes = np.array([shrunk(point).sum() for point in points])
    threshold = 0.0
    if sizes[0] > epsilon:
        threshold = np.interp(-epsilon, -sizes, points)
    return image + np.sign(perturbation) * shrunk(threshold)


def _projected(candidate, images, epsilon, norm):
    nearest = project(tf.constant(candidate), tf.constant(images), epsilon, norm)
    return nearest.numpy()


class TestProject:
    def test_l2_by_hand(self):
        # [3, 4] has norm 5 and becomes [0.6, 0.8] on the unit ball; here a tenth of
        # it, around the middle of the box.
        center = np.full((1, 2), 0.5, np.float32)
        candidate = center + np.float32([[0.3, 0.4]])
        moved = _projected(candidate, center, 0.1, "l2") - center
        np.testing.assert_allclose(moved, [[0.06, 0.08]], atol=1e-7)

    def test_l1_by_hand(self):
        # [3, -1, 0.5] on radius 2: the threshold is 1, since 3 - 1 + 0 + 0 = 2, which
        # leaves [2, 0, 0]; here a tenth of it.
        center = np.full((1, 3), 0.5, np.float32)
        candidate = center + np.float32([[0.3, -0.1, 0.05]])
        moved = _projected(candidate, center, 0.2, "l1") - center
        np.testing.assert_allclose(moved, [[0.2, 0.0, 0.0]], atol=1e-7)

    def test_l1_by_hand_at_the_border(self):
        # The first pixel has room for 0.1 only, so 0.2 of the radius 0.3 is left to
        # the second: threshold 0.2, for min(0.5 - 0.2, 0.1) + (0.4 - 0.2) = 0.3.
        center = np.float32([[0.9, 0.5]])
        candidate = np.float32([[1.4, 0.1]])
        expected = [[1.0, 0.3]]
        np.testing.assert_allclose(
            _projected(candidate, center, 0.3, "l1"), expected, atol=1e-7
        )

    def test_linf_by_hand(self):
        center = np.float32([[0.5, 0.95, 0.02, 0.5]])
        candidate = np.float32([[0.7, 2.0, -1.0, 0.45]])
        expected = [[0.6, 1.0, 0.0, 0.45]]
        np.testing.assert_allclose(
            _projected(candidate, center, 0.1, "linf"), expected, atol=1e-7
        )

    @_few
    @_any_case
    def test_stays_in_ball_and_box(self, seed, norm, epsilon):
        images, candidate = _generated(seed)
        nearest = _projected(candidate, images, epsilon, norm)
        assert nearest.min() >= 0.0
        assert nearest.max() <= 1.0
        pixels = {"linf": 2, "l2": np.sqrt(12), "l1": 12}[norm]
        sizes = _norms(nearest.astype(np.float64) - images, norm)
        assert (sizes <= epsilon * (1 + 1e-6) + pixels * _ROUNDING).all()

    @_few
    @_any_case
    def test_is_idempotent(self, seed, norm, epsilon):
        images, candidate = _generated(seed)
        once = _projected(candidate, images, epsilon, norm)
        twice = _projected(once, images, epsilon, norm)
        np.testing.assert_allclose(twice, once, rtol=0, atol=1e-6)

    @_few
    @_any_case
    def test_leaves_alone_what_is_inside(self, seed, norm, epsilon):
        images, candidate = _generated(seed)
        inside = np.clip(candidate, 0, 1)
        largest = float(_norms(inside - images, norm).max())
        nearest = _projected(inside, images, largest * 1.001 + epsilon, norm)
        np.testing.assert_allclose(nearest, inside, rtol=0, atol=1.2e-7)

    @_few
    @given(seed=st.integers(0, 2**31), epsilon=st.floats(0, 10))
    def test_l1_matches_the_exact_projection(self, seed, epsilon):
        images, candidate = _generated(seed)
        nearest = _projected(candidate, images, epsilon, "l1")
        for index in range(3):
            expected = _exact_l1(
                candidate[index].ravel(), images[index].ravel(), epsilon
            )
            np.testing.assert_allclose(
                nearest[index].ravel(), expected, rtol=0, atol=1e-6
            )

    def test_the_exact_projection_matches_scipy(self):
        image, candidate = np.array([0.9, 0.5, 0.1, 0.3]), np.array([1.6, -0.2, 0.3, 0])
        # Written with the positive and negative part, so that it is smooth.
        found = scipy.optimize.minimize(
            lambda parts: np.sum((image + parts[:4] - parts[4:] - candidate) ** 2),
            np.zeros(8),
            bounds=[(0, 1 - pixel) for pixel in image]
            + [(0, pixel) for pixel in image],
            constraints={"type": "ineq", "fun": lambda parts: 0.6 - parts.sum()},
            method="SLSQP",
            options={"ftol": 1e-14},
        )
        expected = image + found.x[:4] - found.x[4:]
        np.testing.assert_allclose(
            _exact_l1(candidate, image, 0.6), expected, atol=1e-5
        )

    @pytest.mark.parametrize("norm", NORMS)
    def test_radius_of_each_image(self, norm):
        images, candidate = _generated(3)
        radii = np.array([0.0, 0.1, 50.0], np.float32)
        nearest = _projected(candidate, images, radii, norm)
        np.testing.assert_array_equal(nearest[0], images[0])
        # For l2 the box may clip a little; see the docstring.
        assert 0.09 < _norms(nearest - images, norm)[1] <= 0.1 * (1 + 1e-5)
        inside = np.clip(candidate[2], 0, 1)
        np.testing.assert_allclose(nearest[2], inside, atol=1e-6)

    @pytest.mark.parametrize("norm", NORMS)
    def test_equal_in_every_mode(self, norm, in_every_mode):
        images, candidate = map(tf.constant, _generated(4))

        def function(candidate, images):
            return project(candidate, images, 0.2, norm)

        eager, graph, compiled = in_every_mode(function, candidate, images)
        np.testing.assert_allclose(eager, graph, rtol=0, atol=1e-6)
        np.testing.assert_allclose(eager, compiled, rtol=0, atol=1e-6)


class TestSteepestStep:
    def test_l2_by_hand(self):
        # [3, -4] / 5.
        step = steepest_step(tf.constant([[3.0, -4.0]]), tf.fill((1, 2), 0.5), "l2")
        np.testing.assert_allclose(step, [[0.6, -0.8]], rtol=1e-6)

    def test_l1_takes_the_largest_hundredth(self):
        # 300 coordinates, so 3 move: those of gradient 299, -298 and 297, whose sizes
        # sum to 894.
        gradient = np.arange(300, dtype=np.float32)
        gradient[298] *= -1
        step = steepest_step(
            tf.constant(gradient[np.newaxis]), tf.fill((1, 300), 0.5), "l1"
        )
        expected = np.zeros(300)
        expected[-3:] = np.array([297, -298, 299]) / 894
        np.testing.assert_allclose(step[0], expected, rtol=1e-6)

    def test_l1_leaves_out_pixels_that_cannot_move(self):
        # The first may not grow, the second not fall; the third and fourth may move.
        gradient = tf.constant([[9.0, -8.0, 3.0, -2.0]])
        images = tf.constant([[1.0, 0.0, 0.0, 1.0]])
        step = steepest_step(gradient, images, "l1")
        assert step.numpy().tolist() == [[0.0, 0.0, 1.0, 0.0]]

    @_few
    @given(
        seed=st.integers(0, 2**31),
        norm=st.sampled_from(NORMS),
        scale=st.integers(-30, 30),
    )
    def test_grows_a_linear_loss_by_the_dual_norm(self, seed, norm, scale):
        generator = np.random.default_rng(seed)
        gradient = generator.normal(size=(3, 2, 3, 2)) * 10.0**scale
        gradient = gradient.astype(np.float32)
        step = steepest_step(
            tf.constant(gradient), tf.fill((3, 2, 3, 2), 0.5), norm
        ).numpy()
        growth = (step.astype(np.float64) * gradient).sum(axis=(1, 2, 3))
        dual = {"linf": "l1", "l2": "l2", "l1": "linf"}[norm]
        np.testing.assert_allclose(growth, _norms(gradient, dual), rtol=1e-5)
        np.testing.assert_allclose(_norms(step, norm), 1.0, rtol=1e-6)

    @pytest.mark.parametrize("norm", NORMS)
    def test_zero_gradient_gives_a_zero_step(self, norm, in_every_mode):
        images = tf.fill((2, 2, 2, 1), 0.5)

        def function(gradient):
            return steepest_step(gradient, images, norm)

        for step in in_every_mode(function, tf.zeros((2, 2, 2, 1))):
            np.testing.assert_array_equal(step, np.zeros((2, 2, 2, 1)))

    @pytest.mark.parametrize("norm", NORMS)
    def test_images_do_not_see_each_other(self, norm):
        images, gradient = map(tf.constant, _generated(8))
        together = steepest_step(gradient, images, norm).numpy()
        alone = steepest_step(gradient[1:2], images[1:2], norm).numpy()
        np.testing.assert_allclose(together[1:2], alone, rtol=1e-6)


# Far from the border, so no draw is clipped.
_CENTER = np.full((4000, 2, 2, 1), 0.5, np.float32)


def _moved(points):
    return (points.numpy().astype(np.float64) - _CENTER).reshape(len(_CENTER), -1)


class TestRandomPoint:
    def test_linf_is_uniform_in_the_cube(self):
        moved = _moved(random_point(make_key(1), tf.constant(_CENTER), 0.3, "linf"))
        share = (moved.ravel() / 0.3 + 1) / 2
        assert scipy.stats.kstest(share, "uniform").pvalue > _LEAST_P

    @pytest.mark.parametrize("norm", ["l2", "l1"])
    def test_radius_is_that_of_a_uniform_point(self, norm):
        # A ball of d dimensions has the share r^d of its volume within r: the size of
        # a uniform point is distributed as U^(1/d).
        moved = _moved(random_point(make_key(2), tf.constant(_CENTER), 0.3, norm))
        share = (_norms(moved, norm) / 0.3) ** 4
        assert scipy.stats.kstest(share, "uniform").pvalue > _LEAST_P
        # Radii and directions come from separate streams.
        for drawn in (np.sign(moved), np.abs(moved)):
            correlation = np.corrcoef(share, drawn.ravel()[:4000])[0, 1]
            assert abs(correlation) < 4 / np.sqrt(4000)

    @pytest.mark.parametrize("norm", NORMS)
    def test_is_in_the_ball_and_the_box(self, norm):
        images, _ = _generated(5, (64, 2, 3, 2))
        points = random_point(make_key(3), tf.constant(images), 0.4, norm).numpy()
        assert points.min() >= 0.0
        assert points.max() <= 1.0
        sizes = _norms(points.astype(np.float64) - images, norm)
        assert (sizes <= 0.4 * (1 + 1e-6) + 12 * _ROUNDING).all()
        assert len(np.unique(sizes)) == 64

    @pytest.mark.parametrize("norm", NORMS)
    def test_radius_of_each_image(self, norm):
        radii = tf.concat([tf.zeros(2000), tf.fill([2000], 0.2)], axis=0)
        moved = _moved(random_point(make_key(4), tf.constant(_CENTER), radii, norm))
        sizes = _norms(moved, norm)
        assert (sizes[:2000] == 0).all()
        assert 0.15 < sizes[2000:].max() <= 0.2 + 4 * _ROUNDING

    @pytest.mark.parametrize("norm", NORMS)
    def test_keys_repeat_and_differ(self, norm):
        images = tf.constant(_CENTER[:2])
        one, same, other = (
            random_point(make_key(key), images, 0.3, norm).numpy() for key in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, same)
        assert not np.any(one == other)

    @pytest.mark.parametrize("norm", NORMS)
    def test_equal_in_every_mode(self, norm, in_every_mode):
        def function(key, images):
            return random_point(key, images, 0.3, norm)

        images = tf.constant(_CENTER[:20])
        eager, graph, compiled = in_every_mode(function, make_key(1), images)
        np.testing.assert_allclose(eager, graph, rtol=0, atol=1e-6)
        np.testing.assert_allclose(eager, compiled, rtol=0, atol=1e-6)


class TestRandomSurfacePoint:
    @pytest.mark.parametrize("norm", NORMS)
    def test_is_on_the_surface(self, norm):
        points = random_surface_point(make_key(1), tf.constant(_CENTER), 0.3, norm)
        np.testing.assert_allclose(_norms(_moved(points), norm), 0.3, atol=3e-7)

    @pytest.mark.parametrize(
        ("norm", "distribution"),
        [
            # Of a uniform direction in 4 dimensions, the square of each coordinate is
            # distributed as Beta(1/2, 3/2); of a uniform point on the l1 sphere, the
            # size of each as Beta(1, 3).
            ("l2", scipy.stats.beta(0.5, 1.5)),
            ("l1", scipy.stats.beta(1, 3)),
        ],
    )
    def test_is_uniform(self, norm, distribution):
        points = random_surface_point(make_key(2), tf.constant(_CENTER), 0.3, norm)
        share = np.abs(_moved(points)[:, 1] / 0.3)
        share = share**2 if norm == "l2" else share
        assert scipy.stats.kstest(share, distribution.cdf).pvalue > _LEAST_P

    def test_linf_is_uniform_on_the_faces(self):
        points = random_surface_point(make_key(2), tf.constant(_CENTER), 0.3, "linf")
        share = _moved(points) / 0.3
        # Each of the 8 faces gets as many points; on it the others are uniform.
        face = np.abs(share).argmax(axis=1)
        ahead = share[np.arange(4000), face] > 0
        counts = np.bincount(face + 4 * ahead, minlength=8)
        assert scipy.stats.chisquare(counts).pvalue > _LEAST_P
        others = (share[face != 0, 0] + 1) / 2
        assert scipy.stats.kstest(others, "uniform").pvalue > _LEAST_P

    @pytest.mark.parametrize("norm", NORMS)
    def test_signs_are_fair(self, norm):
        points = random_surface_point(make_key(5), tf.constant(_CENTER), 0.3, norm)
        # 16000 signs: the standard error of their share is 0.5 / sqrt(16000).
        share = (_moved(points) > 0).mean()
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(16_000)

    @pytest.mark.parametrize("norm", NORMS)
    def test_is_clipped_to_the_box(self, norm):
        images = tf.constant([[0.0, 1.0, 0.0, 1.0]])
        points = random_surface_point(make_key(1), images, 5.0, norm).numpy()
        assert points.min() >= 0.0
        assert points.max() <= 1.0


class TestShrink:
    @pytest.mark.parametrize("norm", ["l1", "linf"])
    @pytest.mark.parametrize("weighted", [False, True])
    @_few
    @given(seed=st.integers(0, 2**31), amount=st.floats(0, 3))
    def test_is_the_minimum(self, norm, weighted, seed, amount):
        generator = np.random.default_rng(seed)
        change = generator.normal(size=(1, 6)).astype(np.float32)
        weights = generator.uniform(0.1, 2.0, (1, 6)).astype(np.float32)
        given_weights = tf.constant(weights) if weighted else None
        weights = weights if weighted else np.ones((1, 6))
        found = shrink(tf.constant(change), amount, norm, weights=given_weights)

        def cost(points):
            penalty = amount * _norms(points, norm)
            return penalty + 0.5 * np.sum(weights * (points - change) ** 2, axis=1)

        # The cost is convex: a minimum among its neighbours is the minimum.
        around = generator.normal(size=(2000, 6))
        for width in (0.3, 0.01):
            others = cost(found + width * around)
            assert cost(found.numpy())[0] <= others.min() + 1e-5

    def test_amounts_by_image(self):
        change = tf.constant([[1.0, -0.2], [1.0, -0.2]])
        found = shrink(change, tf.constant([0.5, 0.0]), "l1")
        np.testing.assert_allclose(found, [[0.5, 0.0], [1.0, -0.2]])

    @pytest.mark.parametrize("norm", ["l1", "linf"])
    def test_much_leaves_nothing(self, norm):
        found = shrink(tf.constant([[1.0, -0.2]]), 5.0, norm)
        np.testing.assert_array_equal(found, [[0.0, 0.0]])


class TestKeepLargest:
    @_few
    @given(seed=st.integers(0, 2**31), count=st.integers(0, 13))
    def test_is_the_nearest_of_so_few_values(self, seed, count):
        generator = np.random.default_rng(seed)
        # Many of the same size.
        change = generator.integers(-3, 4, (2, 2, 3, 2)).astype(np.float32)
        found = keep_largest(tf.constant(change), count).numpy()
        assert np.all((found == change) | (found == 0))
        for kept, each in zip(found, change, strict=True):
            sizes = np.sort(np.abs(each), axis=None)[::-1]
            np.testing.assert_array_equal(
                np.sort(np.abs(kept), axis=None)[::-1][:count], sizes[:count]
            )
            assert np.count_nonzero(kept) <= count

    def test_counts_by_image(self):
        change = tf.constant([[0.1, -0.4, 0.2], [0.1, -0.4, 0.2]])
        found = keep_largest(change, tf.constant([1.0, 2.0]))
        np.testing.assert_allclose(found, [[0, -0.4, 0], [0, -0.4, 0.2]])

    def test_of_equal_ones_the_first_stay(self):
        found = keep_largest(tf.ones((1, 4)), 2)
        np.testing.assert_array_equal(found, [[1, 1, 0, 0]])

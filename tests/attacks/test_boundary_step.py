import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from keras_advdef.attacks._boundary_step import (
    linearized_boundary,
    mean_logits,
    nearest_plane,
    project_on_hyperplane,
    step_past,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key, uniform
from keras_advdef.core.random_state import scope_key
from tests.support.kernels import missing_kernels

NORMS = ("linf", "l2", "l1")


def noisy(images):
    """Two logits, the second of which is drawn again in each call."""
    first = tf.reduce_sum(images, [1, 2, 3])
    return tf.stack([first, first * uniform(scope_key(), [])], axis=1)


class TestNearestPlane:
    # Distances 3 / (4 + 3) and 1 / 2; 3 / 5 and 1 / 2; 3 / 4 and 1 / 2.
    @pytest.mark.parametrize(("norm", "index"), [("linf", 0), ("l2", 1), ("l1", 1)])
    def test_depends_on_the_norm(self, norm, index):
        values = tf.constant([[-3.0, -1.0]])
        gradients = tf.constant([[4.0, -3.0]]), tf.constant([[0.0, 2.0]])
        value, weights = nearest_plane(values, gradients, norm)
        assert value.numpy().tolist() == [values[0, index]]
        np.testing.assert_array_equal(weights, gradients[index])

    def test_a_zero_gradient_comes_last(self):
        values = tf.constant([[-1e-3, -5.0], [-5.0, -1e-3]])
        zero, one = tf.zeros((1, 2)), tf.ones((1, 2))
        gradients = tf.concat([zero, one], 0), tf.concat([one, zero], 0)
        value, weights = nearest_plane(values, gradients, "l2")
        np.testing.assert_array_equal(value, [-5.0, -5.0])
        np.testing.assert_array_equal(weights, np.ones((2, 2)))


class TestMeanLogits:
    def test_averages_draws_of_their_own(self):
        logits_fn, images = LogitsFunction(noisy), tf.ones((1, 2, 2, 1))
        one, many = (
            mean_logits(logits_fn, images, make_key(0), samples=samples)
            for samples in (1, 200)
        )
        assert abs(float(one[0, 1]) - 2.0) > 0.2
        np.testing.assert_allclose(many, [[4.0, 2.0]], atol=0.3)


class TestLinearizedBoundary:
    def test_of_a_curved_model(self):
        # z1 - z0 = x^2 + 3 y - 1: at (2, 1) value 6 and gradient (4, 3).
        def model(x):
            ahead = x[:, 0, 0, 0] ** 2 + 3 * x[:, 1, 0, 0] - 1
            return tf.stack([tf.zeros_like(ahead), ahead], axis=1)

        value, weights = linearized_boundary(
            LogitsFunction(model),
            tf.reshape([2.0, 1.0], (1, 2, 1, 1)),
            lambda logits: logits[:, 1:] - logits[:, :1],
            make_key(0),
            samples=1,
            norm="l2",
        )
        assert value.numpy().tolist() == [6.0]
        assert weights.numpy().ravel().tolist() == [4.0, 3.0]

    def test_averages_gradients_over_draws(self):
        value, weights = linearized_boundary(
            LogitsFunction(noisy),
            tf.ones((1, 2, 2, 1)),
            lambda logits: logits[:, 1:],
            make_key(0),
            samples=200,
            norm="linf",
        )
        np.testing.assert_allclose(value, [2.0], atol=0.3)
        np.testing.assert_allclose(weights, np.full((1, 2, 2, 1), 0.5), atol=0.08)


class TestStepPast:
    def test_formula_away_from_the_box(self):
        # The plane a = 0.6 from (0.5, 0.4) and, the image, (0.4, 0.5): ways 0.1 and
        # 0.2, so a third would be the share, which is cut to a tenth.
        image, iterate = tf.constant([[0.4, 0.5]]), tf.constant([[0.5, 0.4]])
        plane = tf.constant([-0.2]), tf.constant([[2.0, 0.0]])
        wanted = 0.9 * np.array([0.605, 0.4]) + 0.1 * np.array([0.61, 0.5])
        for norm in NORMS:
            found = step_past(plane, iterate, image, norm)
            np.testing.assert_allclose(found, [wanted], atol=1e-6)

    def test_share_of_a_short_way(self):
        # Ways 0.01 and 0.39: a fortieth.
        image, iterate = tf.constant([[0.2, 0.5]]), tf.constant([[0.58, 0.1]])
        plane = tf.constant([0.01]), tf.constant([[-1.0, 0.0]])
        wanted = np.array([0.5905, 0.1]) * 39 / 40
        wanted += np.array([0.2 + 1.05 * 0.39, 0.5]) / 40
        np.testing.assert_allclose(
            step_past(plane, iterate, image, "l2"), [wanted], atol=1e-6
        )

    @pytest.mark.parametrize("norm", NORMS)
    def test_zero_gradients_and_corners(self, norm):
        corners = tf.constant([[0.0, 1.0], [1.0, 0.0]])
        still = step_past(
            (tf.constant([-1.0, 0.0]), tf.zeros((2, 2))), corners, corners, norm
        )
        np.testing.assert_array_equal(still, corners)
        away = tf.constant([-1.0, -1.0]), tf.constant([[-1.0, 1.0], [1.0, -1.0]])
        np.testing.assert_array_equal(step_past(away, corners, corners, norm), corners)


def project(points, weights, offsets, norm):
    arrays = (tf.constant(each, tf.float32) for each in (points, weights, offsets))
    return project_on_hyperplane(*arrays, norm).numpy()


def cases(count=30, pixels=6, seed=0):
    """Points, some of their pixels at a bound, and planes that meet the box."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(size=(count, pixels))
    points = np.where(generator.uniform(size=points.shape) < 0.3, 0.0, points)
    points = np.where(generator.uniform(size=points.shape) < 0.2, 1.0, points)
    weights = generator.normal(size=points.shape)
    weights = np.where(generator.uniform(size=points.shape) < 0.15, 0.0, weights)
    weights[:, -1] = 0.3
    # Most planes are met near a corner, so that many pixels saturate.
    reached = generator.beta(0.3, 0.3, size=points.shape)
    offsets = -np.sum(weights * reached, 1)
    return points, weights, offsets


def least_distance(point, weights, offset, norm):
    """The linear programme in the point's change and its norm."""
    pixels = len(point)
    eye, extra = np.eye(pixels), np.eye(pixels)
    if norm == "linf":
        extra = np.ones((pixels, 1))
    cost = np.concatenate([np.zeros(pixels), np.ones(extra.shape[1])])
    solved = optimize.linprog(
        cost,
        A_ub=np.block([[eye, -extra], [-eye, -extra]]),
        b_ub=np.concatenate([point, -point]),
        A_eq=[[*weights, *np.zeros(extra.shape[1])]],
        b_eq=[-offset],
        bounds=[(0, 1)] * pixels + [(0, None)] * extra.shape[1],
    )
    assert solved.status == 0
    return solved.fun


class TestProjectOnHyperplane:
    @pytest.mark.parametrize(("norm", "order"), [("linf", np.inf), ("l1", 1)])
    def test_matches_linear_programming(self, norm, order):
        points, weights, offsets = cases()
        found = project(points, weights, offsets, norm)
        np.testing.assert_allclose(
            np.linalg.norm(found - points, order, axis=1),
            [least_distance(*case, norm) for case in zip(*cases(), strict=True)],
            atol=1e-5,
        )
        residuals = np.sum(weights * found, 1) + offsets
        np.testing.assert_allclose(residuals, 0.0, atol=1e-5)

    def test_matches_quadratic_programming(self):
        points, weights, offsets = cases(15, 5, seed=1)
        found = project(points, weights, offsets, "l2")
        for each, point, normal, offset in zip(
            found, points, weights, offsets, strict=True
        ):
            solved = optimize.minimize(
                lambda z, point=point: np.sum((z - point) ** 2),
                np.full(5, 0.5),
                jac=lambda z, point=point: 2 * (z - point),
                bounds=[(0, 1)] * 5,
                constraints={
                    "type": "eq",
                    "fun": lambda z, normal=normal, offset=offset: normal @ z + offset,
                },
                method="SLSQP",
                options={"ftol": 1e-12},
            )
            assert solved.success
            np.testing.assert_allclose(each, solved.x, atol=2e-4)
            assert abs(normal @ each + offset) < 1e-5

    def test_inside_the_box_by_hand(self):
        # From (0.5, 0.5) the plane 4 a + 3 b = 4.5 is one away in value:
        # linf 1 / 7 along the signs, l2 (4, 3) / 25, l1 1 / 4 along the first.
        at = [[0.5, 0.5]], [[4.0, 3.0]], [-4.5]
        found = [project(*at, norm)[0] - 0.5 for norm in NORMS]
        np.testing.assert_allclose(
            found, [[1 / 7, 1 / 7], [0.16, 0.12], [0.25, 0.0]], atol=1e-6
        )

    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_out_of_reach_every_useful_pixel_saturates(self, norm, sign):
        weights = sign * np.array([[2.0, -1.0, 0.0, 1e-3, 1e-6]])
        found = project([[0.2, 0.4, 0.3, 1.0, 0.6]], weights, [-9.0 * sign], norm)
        np.testing.assert_array_equal(found[0, [0, 1, 3, 4]], [1.0, 0.0, 1.0, 1.0])
        assert found[0, 2] == np.float32(0.3)

    @pytest.mark.parametrize("norm", NORMS)
    def test_zero_weights_move_nothing(self, norm):
        points = np.array([[0.0, 0.5, 1.0]] * 2, "float32")
        for offset in (0.0, 2.0):
            found = project(points, np.zeros((2, 3)), [offset, -offset], norm)
            np.testing.assert_array_equal(found, points)

    @pytest.mark.parametrize("norm", NORMS)
    def test_a_point_of_the_plane_stays(self, norm):
        points = np.array([[0.25, 0.5]], "float32")
        found = project(points, [[2.0, -1.0]], [0.0], norm)
        np.testing.assert_array_equal(found, points)

    @pytest.mark.parametrize("norm", NORMS)
    def test_the_scale_of_the_plane_does_not_matter(self, norm):
        points, weights, offsets = cases()
        wanted = project(points, weights, offsets, norm)
        for scale in (1e-25, 1e25):
            scaled = project(points, scale * weights, scale * offsets, norm)
            np.testing.assert_allclose(scaled, wanted, atol=1e-5)

    def test_equal_weights_share_an_l1_way(self):
        found = project([[0.5, 0.9, 0.0]], [[1.0, 1.0, 0.5]], [-1.7], "l1")
        assert found[0, 2] == 0.0
        np.testing.assert_allclose(found[0, :2].sum(), 1.7, atol=1e-6)

    @pytest.mark.parametrize("norm", NORMS)
    def test_images_of_many_pixels(self, norm):
        points, weights, offsets = cases(8, 3072, seed=2)
        shaped = [each.reshape(8, 32, 32, 3) for each in (points, weights)]
        found = project(*shaped, offsets, norm)
        assert found.shape == (8, 32, 32, 3)
        assert found.min() >= 0.0
        assert found.max() <= 1.0
        residuals = np.sum(weights * found.reshape(8, -1), 1) + offsets
        scale = np.linalg.norm(weights, axis=1)
        np.testing.assert_allclose(residuals / scale, 0.0, atol=1e-4)

    @pytest.mark.parametrize("norm", NORMS)
    def test_rows_do_not_see_each_other(self, norm):
        points, weights, offsets = cases()
        together = project(points, weights, offsets, norm)
        alone = project(points[:1], weights[:1], offsets[:1], norm)
        np.testing.assert_array_equal(together[:1], alone)

    @pytest.mark.parametrize("norm", NORMS)
    def test_same_in_eager_graph_and_xla(self, norm):
        arguments = [tf.constant(each, tf.float32) for each in cases()]
        eager = project_on_hyperplane(*arguments, norm)
        for jit in (False, True):
            compiled = tf.function(
                lambda *each: project_on_hyperplane(*each, norm),
                jit_compile=jit,
                autograph=False,
            )
            np.testing.assert_allclose(compiled(*arguments), eager, atol=1e-5)
        assert (
            missing_kernels(
                lambda *each: project_on_hyperplane(*each, norm), *arguments
            )
            == {}
        )

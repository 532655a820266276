import numpy as np
import pytest

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._verdict.planted_points import (
    CORNERS,
    FURTHER,
    INNER,
    draw_points,
    plant,
)

ENDS = np.cumsum([INNER, CORNERS, FURTHER])
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def points_of(norm, epsilon, image=None):
    image = np.full((6, 6, 1), 0.5) if image is None else image
    pixels = ValueRange(0.0, 1.0)
    return draw_points(image, epsilon=epsilon, norm=norm, pixels=pixels, seed=0)


def norms(points, norm, middle=0.5):
    flat = (points - middle).reshape(len(points), -1)
    return np.linalg.norm(flat, ord=ORDERS[norm], axis=1)


class TestDrawPoints:
    @pytest.mark.parametrize(
        ("norm", "epsilon"), [("linf", 0.1), ("l2", 0.4), ("l1", 1.7)]
    )
    def test_points(self, norm, epsilon):
        points = points_of(norm, epsilon)
        inner, corners, further, image = np.split(norms(points, norm), ENDS)
        assert inner.max() <= 0.95 * epsilon * (1 + 1e-6)
        assert inner.max() > 0.85 * epsilon
        np.testing.assert_allclose(corners, epsilon, rtol=1e-5)
        assert 0.95 * epsilon < further.max() <= epsilon * (1 + 1e-6)
        assert image == 0.0

    def test_corners(self):
        for norm, changed in (("linf", 36), ("l1", 4)):
            corners = points_of(norm, 1.7 if norm == "l1" else 0.1)[INNER:][:CORNERS]
            # In l1, three pixels by 0.5 and one by 0.2.
            assert (np.abs(corners - 0.5) > 1e-6).sum(axis=(1, 2, 3)).tolist() == (
                [changed] * CORNERS
            )

    @pytest.mark.parametrize("norm", ORDERS)
    def test_points_stay_in_the_range(self, norm):
        image = np.where(np.arange(36).reshape(6, 6, 1) % 2, 1.0, 0.0)
        points = points_of(norm, 3.0, image)
        assert points.min() == 0.0
        assert points.max() == 1.0
        assert norms(points, norm, image).max() <= 3.0 * (1 + 1e-6)

    def test_same_draws_for_the_same_seed(self):
        np.testing.assert_array_equal(points_of("l2", 0.1), points_of("l2", 0.1))


def features_of(width, seed=0):
    """Normal features; of the corners three times as large; the image is at 1."""
    rng = np.random.default_rng(seed)
    scales = np.repeat([1.0, 3.0, 1.0, 0.0], [INNER, CORNERS, FURTHER, 1])
    found = 1.0 + scales[:, None] * rng.normal(size=(len(scales), width))
    return found.astype(np.float32)


class TestPlant:
    @pytest.mark.parametrize("width", [5, 40, 500])
    def test_one_corner_stands_alone(self, width):
        features = features_of(width)
        planted = plant(features)
        inner, corners, _, image = np.split(
            features @ planted.slope + planted.offset, ENDS
        )
        assert planted.is_apart
        assert planted.by_chance <= 0.05
        assert inner.max() < 0.0
        assert 0.0 < corners.max() < 0.01
        np.testing.assert_allclose(image, -1.0, rtol=1e-4)

    def test_slope_is_a_ridge_discriminant(self):
        features = features_of(4).astype(float)
        inner, corners = features[:INNER], features[INNER : INNER + CORNERS]
        covariance = np.cov(inner.T, bias=True)
        ridge = 0.03 * np.eye(4)
        shrunk = covariance / np.trace(covariance) + ridge
        expected = np.linalg.solve(shrunk, (corners - inner.mean(axis=0)).T).T
        slope = plant(features_of(4)).slope
        cosines = (
            expected @ slope / np.linalg.norm(expected, axis=1) / np.linalg.norm(slope)
        )
        assert cosines.max() > 1 - 1e-6
        assert np.sort(cosines)[-2] < 0.999

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_features_that_never_change(self, value):
        features = np.full((INNER + CORNERS + FURTHER + 1, 7), value, np.float32)
        assert not plant(features).is_apart

    def test_corners_like_all_others(self):
        features = features_of(500)
        features[INNER : INNER + CORNERS] = 1.0
        assert not plant(features).is_apart

    def test_what_random_points_reach_is_told(self):
        features = features_of(3)
        further = slice(INNER + CORNERS, INNER + CORNERS + FURTHER)
        corners = features[INNER : INNER + CORNERS]
        features[further] = np.repeat(1.0 + 2.0 * (corners - 1.0), 4, axis=0)
        assert plant(features).by_chance >= 4 / FURTHER

    def test_other_draws_of_the_corners_decide(self):
        features = features_of(5)
        corners = features[INNER : INNER + CORNERS]
        unlucky = plant(features, 1.0 + 0.0 * corners)
        assert not unlucky.is_apart
        weaker = plant(features, 1.0 + 0.9 * (corners - 1.0))
        assert weaker.is_apart
        best = np.argmax(corners @ weaker.slope)
        inner = (features[:INNER] @ weaker.slope + weaker.offset).max()
        value = (1.0 + 0.9 * (corners[best] - 1.0)) @ weaker.slope + weaker.offset
        # A fifth of the way from the corner to the inner points is left.
        np.testing.assert_allclose(value / (value - inner), 0.2, rtol=1e-3)

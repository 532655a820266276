import json

import numpy as np
import pytest
from scipy.stats import beta

from keras_advdef.evaluation.accuracy_estimate import (
    AccuracyEstimate,
    paired_difference,
)


class TestAccuracyEstimate:
    @pytest.mark.parametrize("correct", [1, 37, 99])
    def test_interval_is_clopper_pearson(self, correct):
        low, high = AccuracyEstimate(correct, 100).interval
        assert low == pytest.approx(beta.ppf(0.025, correct, 101 - correct))
        assert high == pytest.approx(beta.ppf(0.975, correct + 1, 100 - correct))

    def test_ends_of_the_range(self):
        # With none correct, the upper end solves (1 - p)**n = 0.025.
        low, high = AccuracyEstimate(0, 20).interval
        assert low == 0.0
        assert high == pytest.approx(1 - 0.025 ** (1 / 20))
        assert AccuracyEstimate(20, 20).interval[1] == 1.0

    def test_json(self):
        values = AccuracyEstimate(3, 4).to_json()
        assert values["accuracy"] == 0.75
        assert values["count"] == 4
        assert json.loads(json.dumps(values)) == values


class TestOverDraws:
    def test_one_draw_is_an_ordinary_estimate(self):
        wrong = np.arange(20)[None] < 5
        found, expected = AccuracyEstimate.over_draws(wrong), AccuracyEstimate(15, 20)
        assert found.accuracy == expected.accuracy
        assert found.interval == expected.interval

    def test_equal_draws_are_one(self):
        wrong = np.repeat(np.arange(20)[None] < 5, 10, axis=0)
        expected = AccuracyEstimate(15, 20).interval
        assert AccuracyEstimate.over_draws(wrong).interval == expected

    @pytest.mark.parametrize("end", [False, True])
    def test_ends_of_the_range(self, end):
        found = AccuracyEstimate.over_draws(np.full((10, 20), end))
        assert found.interval == AccuracyEstimate(0 if end else 20, 20).interval

    def test_a_mean_between_two_counts_lies_between_their_intervals(self):
        wrong = np.zeros((2, 20), bool)
        wrong[:, :5] = wrong[0, 5] = True
        found = AccuracyEstimate.over_draws(wrong)
        assert found.accuracy == pytest.approx(14.5 / 20)
        for middle, low, high in zip(
            found.interval,
            AccuracyEstimate(14, 20).interval,
            AccuracyEstimate(15, 20).interval,
            strict=True,
        ):
            assert low < middle < high

    def test_draws_shared_by_all_images_count_as_few(self):
        # In each draw all images are right, or none is.
        wrong = np.repeat(np.arange(10)[:, None] < 5, 200, axis=1)
        low, high = AccuracyEstimate.over_draws(wrong).interval
        assert low < 0.2
        assert high > 0.8

    @pytest.mark.parametrize("shared", [False, True])
    def test_covers_the_truth(self, shared):
        """Of images that are right with chances of 0 to 1, in draws for all or each."""
        generator = np.random.default_rng(2)
        hits = 0
        for _ in range(300):
            chances = generator.random(50)
            luck = generator.random((10, 1 if shared else 50))
            found = AccuracyEstimate.over_draws(luck > chances)
            hits += found.interval[0] <= 0.5 <= found.interval[1]
        assert hits / 300 > 0.93


class TestPairedDifference:
    def test_by_hand(self):
        # Three gained, one lost, six alike: 3.5 and 1.5 of 12.
        right = np.array([1, 1, 1, 0, 1, 1, 1, 0, 0, 0], bool)
        before = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0, 0], bool)
        change, interval = paired_difference(right, before)
        assert change == pytest.approx(0.2)
        reach = 1.959964 * np.sqrt(3.5 + 1.5 - (3.5 - 1.5) ** 2 / 12) / 12
        expected = [2 / 12 - reach, 2 / 12 + reach]
        np.testing.assert_allclose(interval, expected, rtol=1e-6)

    def test_swapped_models_turn_it_round(self):
        generator = np.random.default_rng(0)
        one, other = generator.random((2, 50)) < [[0.8], [0.6]]
        change, (low, high) = paired_difference(one, other)
        back, (down, up) = paired_difference(other, one)
        np.testing.assert_allclose([back, down, up], [-change, -high, -low])

    @pytest.mark.parametrize("gained", [True, False])
    def test_stays_in_its_range(self, gained):
        right, before = np.full(2, gained), np.full(2, not gained)
        change, (low, high) = paired_difference(right, before)
        assert change == (1.0 if gained else -1.0)
        assert -1.0 <= low < high <= 1.0
        assert 1.0 in (-low, high)

    def test_covers_the_truth(self):
        # 20 % gained, 10 % lost.
        generator = np.random.default_rng(1)
        outcome = generator.random((2000, 80))
        hits = 0
        for row in outcome:
            right, before = row > 0.1, (row < 0.1) | (row > 0.3)
            _, (low, high) = paired_difference(right, before)
            hits += low <= 0.1 <= high
        assert 0.93 < hits / 2000 < 0.97

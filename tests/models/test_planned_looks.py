import numpy as np
import pytest

from keras_advdef.models._planned_looks import (
    PlannedLooks,
    draws_needed,
    lower_bound,
)


def bounds_of(looks, chance, runs):
    generator = np.random.default_rng(0)
    drawn = []

    def draw(look, count):
        drawn.append(count)
        return int(generator.binomial(count, chance))

    return np.array([looks.bound(draw) for _ in range(runs)]), sum(drawn) / runs


class TestPlannedLooks:
    @pytest.mark.parametrize("chance", [0.5, 0.84, 0.93])
    def test_claims_too_much_no_more_often_than_promised(self, chance):
        # Wanted chances at and above the true one: every claim of them is false.
        looks = PlannedLooks.of(
            1000, 0.05, [chance, chance + 0.02], stops_when_reached=True
        )
        bounds, _ = bounds_of(looks, chance, 2000)
        share = np.mean(bounds > chance)
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
        # A bound that never failed would be far too careful.
        assert share > 0.002

    def test_shares_the_chance_to_fail(self):
        looks = PlannedLooks.of(1000, 0.01, [0.5], stops_when_reached=True)
        assert looks.draws == (128, 256, 512, 1000)
        np.testing.assert_allclose(looks.failures, [0.01 / 6] * 3 + [0.005])
        whole = PlannedLooks.of(1000, 0.01, [0.5], stops_when_reached=False)
        assert whole.failures == (0.0, 0.0, 0.0, 0.01)
        assert PlannedLooks.of(100, 0.01, [0.5], stops_when_reached=True).failures == (
            0.01,
        )

    def test_stops_early_and_loses_nothing_far_from_the_limit(self):
        looks = PlannedLooks.of(10_000, 0.001, [0.7, 0.9], stops_when_reached=True)
        for chance, reached in ((0.99, 0.9), (0.8, 0.7), (0.5, 0.0)):
            bounds, mean = bounds_of(looks, chance, 200)
            assert (bounds >= reached).all()
            assert mean < 1000

    def test_full_precision_takes_all_draws_unless_it_would_abstain(self):
        looks = PlannedLooks.of(2000, 0.001, [0.5], stops_when_reached=False)
        bounds, mean = bounds_of(looks, 1.0, 3)
        np.testing.assert_allclose(bounds, 0.001 ** (1 / 2000), rtol=1e-9)
        assert mean == 2000
        assert bounds_of(looks, 0.2, 20)[1] == 128


def test_lower_bound_is_exact():
    # P(hits >= 7 of 10) at the bound is the chance to fail.
    from scipy.stats import binom

    bound = lower_bound(7, 10, 0.05)
    np.testing.assert_allclose(binom.sf(6, 10, bound), 0.05, rtol=1e-6)
    assert lower_bound(0, 10, 0.05) == 0.0


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.999])
def test_draws_needed_are_the_fewest(wanted, is_shared):
    count = draws_needed(wanted, 0.001, stops_when_reached=is_shared)
    largest = [
        PlannedLooks.of(each, 0.001, [wanted], stops_when_reached=is_shared).largest
        for each in (count - 1, count)
    ]
    assert largest[0] <= wanted < largest[1]

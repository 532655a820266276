import json

import pytest
from scipy.stats import beta

from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate


class TestAccuracyEstimate:
    @pytest.mark.parametrize("correct", [1, 37, 99])
    def test_interval_is_clopper_pearson(self, correct):
        low, high = AccuracyEstimate(correct, 100).interval
        assert low == pytest.approx(beta.ppf(0.025, correct, 101 - correct))
        assert high == pytest.approx(beta.ppf(0.975, correct + 1, 100 - correct))

    def test_ends_of_the_range(self):
        # With none right the upper end solves (1 - p)**n = 0.025.
        low, high = AccuracyEstimate(0, 20).interval
        assert low == 0.0
        assert high == pytest.approx(1 - 0.025 ** (1 / 20))
        assert AccuracyEstimate(20, 20).interval[1] == 1.0

    def test_json(self):
        values = AccuracyEstimate(3, 4).to_json()
        assert values["accuracy"] == 0.75
        assert values["count"] == 4
        assert json.loads(json.dumps(values)) == values

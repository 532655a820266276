import dataclasses

import numpy as np
import pytest

from keras_advdef.core.value_range import ValueRange
from keras_advdef.recipes._harden.plan import MOST_EPOCHS, Plan, planned
from keras_advdef.recipes._harden.request import Request
from keras_advdef.recipes._harden.training_data import TrainingData
from tests.recipes.conftest import small_net, striped


@pytest.fixture(scope="module")
def data():
    return TrainingData.of(striped(256), striped(20), ValueRange(), seed=0)


@pytest.fixture
def request_of():
    """Returns a request with some changes."""
    defaults = {
        field.name: None
        for field in dataclasses.fields(Request)
        if field.name not in ("norm", "recipe")
    }
    settings = {"batch_size": 64, "averaging": 0.0, "guard": False, "recipe": "pgd"}
    settings |= {"norm": "linf", "model": small_net()}
    return lambda **changes: Request(**{**defaults, **settings, **changes})


def _planned(request, data, **changes):
    settings = {"precision": "float32", "step": 1.0, "spent": 10.0, "evaluation": 5.0}
    return planned(request, data, **{**settings, **changes})


class TestPlanned:
    def test_epochs_are_taken_as_they_are(self, request_of, data):
        plan = _planned(request_of(epochs=7, minutes=1.0), data)
        assert (plan.epochs, plan.training_seconds) == (7, None)

    def test_epochs_fit_into_the_minutes(self, request_of, data):
        # Four steps of a second, and 10 images of 31 passes where a step has 64 of 24.
        per_epoch = 4.0 + 10 * 31 / (64 * 24)
        plan = _planned(request_of(minutes=10.0), data)
        assert plan.seconds_per_epoch == pytest.approx(per_epoch)
        left = 600.0 - 10.0 - 2 * 5.0
        assert plan.training_seconds == pytest.approx(left)
        assert plan.epochs == int(left / (1.05 * per_epoch))
        assert f"{plan.epochs} epochs" in plan.sentence

    def test_what_follows_an_epoch_counts(self, request_of, data):
        plain = _planned(request_of(epochs=1), data)
        averaged = _planned(request_of(epochs=1, averaging=0.9), data)
        assert averaged.seconds_per_epoch == pytest.approx(
            plain.seconds_per_epoch + 4.0
        )
        bare, guarded = (
            _planned(request_of(epochs=1, recipe="fast", guard=guard), data)
            for guard in (False, True)
        )
        assert guarded.seconds_per_epoch > bare.seconds_per_epoch

    def test_too_few_minutes_name_enough(self, request_of, data):
        with pytest.raises(ValueError, match="`minutes`") as refused:
            _planned(request_of(minutes=0.1), data)
        least = float(str(refused.value).split("takes about ")[1].split()[0])
        assert _planned(request_of(minutes=least), data).epochs >= 1

    def test_default(self, request_of, data):
        assert _planned(request_of(), data).epochs == 30


class TestRevise:
    def _plan(self, **changes):
        settings = {"epochs": 50, "seconds_per_epoch": 1.0, "evaluation_seconds": 1.0}
        return Plan(precision="float32", **{**settings, **changes})

    @pytest.mark.parametrize(("seconds", "epochs"), [(4.0, 24), (1e-6, MOST_EPOCHS)])
    def test_by_what_an_epoch_took(self, seconds, epochs):
        plan = self._plan(training_seconds=100.0)
        assert plan.revise(2, seconds=seconds, spent=10.0)
        assert plan.epochs == epochs

    def test_not_where_it_is_nearly_right(self):
        plan = self._plan(training_seconds=100.0)
        assert not plan.revise(10, seconds=2.1, spent=20.0)
        assert plan.epochs == 50

    def test_never_below_what_is_done(self):
        plan = self._plan(training_seconds=5.0)
        plan.revise(2, seconds=4.0, spent=10.0)
        assert plan.epochs == 2

    def test_not_where_epochs_were_asked_for(self):
        plan = self._plan()
        assert not plan.revise(2, seconds=np.inf, spent=0.0)
        assert plan.epochs == 50

"""Requests, probed, runners and reports made by hand."""

import copy

import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.core.cards import DefenceCard
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import RobustnessReport, evaluate_robustness
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._run.forecast import Forecast
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.runner import Runner, measure_clean
from tests.support.report_values import small_report


@pytest.fixture
def make_probe_result():
    """Makes the probed of an honest deterministic model, but for some changes."""

    def make(model=len, **changes):
        defaults = {
            "cards": {},
            "is_random": False,
            "spread": 0.0,
            "score_total": 0.0,
            "certain": 0.0,
            "no_gradient": 0.0,
            "no_gradient_by_identity": 0.0,
            "bpda_layers": (),
            "saturated": 0.0,
            "gap": 2.0,
            "classes": 10,
            "naive": ModelView(model),
            "adaptive": ModelView(model),
        }
        return ProbeResult(**{**defaults, **changes})

    return make


@pytest.fixture
def made_up_card():
    """Makes the card of a defence that does not exist."""

    def make(**changes):
        facts = dict.fromkeys(("summary", "paper", "claim"), "none")
        costs = dict.fromkeys(("training_cost", "inference_cost"), "none")
        kind = {"category": "robust training", "standing": "standing"}
        return DefenceCard(**{**facts, **costs, **kind, **changes})

    return make


@pytest.fixture
def make_judge():
    """Makes the judge of a request."""

    def make(request):
        model = request.evaluated.model
        return Judge(model, value_range=request.value_range, batch_size=request.size)

    return make


@pytest.fixture
def make_runner(make_judge):
    """Makes a runner that has looked at the clean images and keeps nothing."""

    def make(request, *, is_random=False):
        labels, judge = np.asarray(request.labels), make_judge(request)
        ledger = Ledger(None, {}, Progress())
        return Runner(
            request,
            labels,
            judge,
            clean=measure_clean(
                request, labels, judge, ledger=ledger, is_random=is_random
            ),
            ledger=ledger,
            progress=Progress(),
            forecast=Forecast(),
            expected_work=lambda so_far: {},
        )

    return make


@pytest.fixture
def report(shared_report):
    """What an evaluation of ten digits with a weak attack found."""
    return RobustnessReport(
        copy.deepcopy(shared_report.data),
        shared_report.gallery,
        example=shared_report.example,
        images=shared_report.images,
    )


@pytest.fixture(scope="session")
def shared_report(trained_net, digits):
    """The same, to be left alone."""
    return evaluate_robustness(
        trained_net,
        digits.x_test[:10],
        digits.y_test[:10],
        epsilon=0.08,
        attacks=[PGD(0.08, steps=2)],
        curve=[0.04],
        verbose=0,
    )


@pytest.fixture
def report_values(report_values_of):
    """What a small `report.json` holds, with a reference and without randomness."""
    return report_values_of()


@pytest.fixture(scope="session")
def report_values_of():
    """Makes the values of `report_values`."""
    return small_report

"""Requests, traits, runners and reports made by hand."""

import copy

import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation import RobustnessReport, evaluate_robustness
from keras_advdef.evaluation.judge import Judge
from keras_advdef.evaluation.ledger import Ledger
from keras_advdef.evaluation.progress import Progress
from keras_advdef.evaluation.runner import Runner
from keras_advdef.evaluation.traits import Traits


@pytest.fixture
def make_traits():
    """Makes the traits of an honest deterministic model, but for some changes."""

    def make(model=len, **changes):
        defaults = {
            "cards": {},
            "is_random": False,
            "spread": 0.0,
            "probabilities": False,
            "certain": 0.0,
            "no_gradient": 0.0,
            "no_gradient_by_identity": 0.0,
            "identity": (),
            "saturated": 0.0,
            "gap": 2.0,
            "classes": 10,
            "naive": ModelView(model),
            "adaptive": ModelView(model),
        }
        return Traits(**{**defaults, **changes})

    return make


@pytest.fixture
def make_judge():
    """Makes the judge of a request."""

    def make(request):
        model = request.subject.model
        return Judge(model, value_range=request.value_range, batch_size=request.size)

    return make


@pytest.fixture
def make_runner(make_judge):
    """Makes a runner that has looked at the clean images and keeps nothing."""

    def make(request, *, is_random=False):
        runner = Runner(
            request,
            np.asarray(request.labels),
            make_judge(request),
            ledger=Ledger(None, {}, Progress()),
            progress=Progress(),
            is_random=is_random,
        )
        runner.look_at_clean()
        return runner

    return make


@pytest.fixture
def report(shared_report):
    """What an evaluation of ten digits with a weak attack found."""
    return RobustnessReport(copy.deepcopy(shared_report.data), shared_report.gallery)


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


def _estimate(correct, low, high):
    return {"accuracy": correct / 10, "interval": [low, high], "count": 10}


@pytest.fixture
def report_values(report_values_of):
    """What a small `report.json` holds, with a reference and without randomness."""
    return report_values_of()


@pytest.fixture(scope="session")
def report_values_of():
    """Makes the values of `report_values`."""
    return _report_values


def _report_values():
    clean, naive, adaptive = (
        _estimate(9, 0.55, 1.0),
        _estimate(5, 0.19, 0.81),
        _estimate(3, 0.07, 0.65),
    )
    return {
        "headline": "Accuracy under a | b",
        "masking_suspected": True,
        "clean": {**clean, "attacks": []},
        "naive": {**naive, "attacks": ["PGD-20"]},
        "adaptive": {**adaptive, "attacks": ["PGD-20", "Square-200"]},
        "checks": [
            {"name": "more_steps", "passed": True, "detail": "3 and 3."},
            {"name": "input_gradients", "passed": False, "detail": "90 %."},
            {"name": "transfer_vs_white_box", "passed": None, "detail": "Not run."},
        ],
        "curve": [{"epsilon": 0.0, **clean}, {"epsilon": 0.1, **adaptive}],
        "per_class": [{"class": 7, "count": 10, "clean": clean, "adaptive": adaptive}],
        "attacks": [
            {"name": "PGD-20", "role": "naive", "images": 10, "accuracy_after": 0.5}
        ],
        "skipped": [{"attack": "transfer", "reason": "no surrogate given"}],
        "defences": ["RandomNoise"],
        "duties": {
            "architecture": {"layers_added": 2, "parameters_added": None},
            "clean_accuracy_change": {"difference": -0.1, "interval": [-0.25, 0.05]},
            "small_epsilons": [{"epsilon": 0.05, **naive}],
            "smallest_perturbation": {"median": 0.0123, "count": 8, "attack": "FAB-20"},
        },
        "images": {"evaluated": 10, "given": 12},
        "seed": 3,
        "epsilon": 0.1,
        "norm": "linf",
        "value_range": [0.0, 1.0],
        "budget": "quick",
        "versions": {"keras": "3", "numpy": "2"},
        "run": {
            "command": "python run.py",
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 12.3,
            "inference": {"inference_time_ratio": 1.25},
        },
    }

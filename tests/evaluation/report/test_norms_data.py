import types

import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._report.findings import Findings
from keras_advdef.evaluation._report.norms_data import norms_data
from keras_advdef.evaluation._run.image_records import ImageRecords
from keras_advdef.evaluation.check import Check

COUNT = 40
NUMBERS = np.arange(COUNT)


def findings(draws, chosen=None, *, passed=True):
    """Findings on images that some draws misclassify under attack."""
    naive = Stage(
        key="naive", label="PGD", role="naive", attack=PGD(0.1), view=ModelView(len)
    )
    draws = np.asarray(draws)
    return Findings(
        plan=Plan(naive=naive, checks={}, adaptive=(), skipped=(), missing=()),
        classes=2,
        labels=np.zeros(COUNT, int),
        clean=np.zeros(COUNT),
        naive=np.zeros(COUNT),
        chosen=draws.mean(axis=0) if chosen is None else chosen,
        records=[],
        images=ImageRecords(np.zeros(COUNT, int), 1),
        checks=[Check(name="any", passed=passed, detail=".", reason="so")],
        measured=types.SimpleNamespace(adaptive=draws, within=None),
        seconds={},
    )


@pytest.fixture
def data_of(make_request):
    """What a report says about two norms."""

    def data(linf, l2, budget="standard"):
        images = {"images": np.full((COUNT, 2, 1, 1), 0.5), "labels": [0] * COUNT}
        request = make_request(
            norms=["linf", "l2"], epsilon=[0.1, 0.5], budget=budget, **images
        )
        return norms_data([(request, linf), (request.under(request.further[0]), l2)])

    return data


def test_any_norm_breaks_an_image(data_of):
    # Images 0 to 9 under linf; 5 to 14 under l2.
    linf, l2 = [NUMBERS < 10], [(NUMBERS >= 5) & (NUMBERS < 15)]
    data = data_of(findings(linf), findings(l2))
    assert data["union"]["accuracy"] == 25 / COUNT
    assert data["union"]["finding"] == (
        "Under the worst of linf 25.5/255 and l2 0.5 for each image, accuracy is "
        "62.5 % [45.8, 77.3]."
    )
    assert [each["adaptive"]["accuracy"] for each in data["norms"]] == [0.75, 0.75]


def test_the_worst_norm_is_chosen_on_other_draws(data_of):
    """The larger of two shares on the same draws would be biased."""
    generator = np.random.default_rng(0)
    linf, l2 = generator.random((2, 10, COUNT)) < 0.5
    chosen = [np.full(COUNT, 0.6), np.full(COUNT, 0.5)]
    data = data_of(findings(linf, chosen[0]), findings(l2, chosen[1]))
    assert data["union"]["accuracy"] == pytest.approx(1 - linf.mean())


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("standard", "Robust in linf only: under l2 0.5 accuracy falls to 2.5 %. "),
        ("quick", "Accuracy is left in linf only: under l2 0.5 it falls to 2.5 %. "),
    ],
)
def test_robust_in_one_norm_only(data_of, budget, said):
    data = data_of(findings([NUMBERS < 4]), findings([NUMBERS > 0]), budget)
    assert data["union"]["finding"].startswith(
        f"{said}Under the worst of linf 25.5/255 "
    )
    assert [each["norm"] for each in data["norms"]] == ["linf", "l2"]
    other = data_of(findings([NUMBERS > 0]), findings([NUMBERS < 4]), budget)
    assert "in l2 only: under linf 25.5/255" in other["union"]["finding"]


def test_nothing_is_said_where_gradients_may_be_masked(data_of):
    masked = findings([NUMBERS < 4], passed=False)
    data = data_of(masked, findings([NUMBERS > 0]))
    assert data["union"]["finding"].startswith("Under the worst of ")
    assert data["norms"][0]["failed_checks"] == ["any"]
    assert data["norms"][0]["masking_suspected"]
    # Of the norm that breaks the model it does not matter.
    masked = findings([NUMBERS > 0], passed=False)
    data = data_of(findings([NUMBERS < 4]), masked)
    assert data["union"]["finding"].startswith("Robust in linf only: ")

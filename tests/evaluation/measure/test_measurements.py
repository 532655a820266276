import dataclasses

import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._measure.measurements import measure_all
from keras_advdef.evaluation._run.ledger import Ledger
from tests.support.nets import linear_net

# Class 1 where the first pixel is above the second: an image's distance from the other
# class is half the difference.
NET = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
DISTANCES = np.array([0.02, 0.06, 0.1, 0.14])
IMAGES = np.stack([0.5 + DISTANCES, 0.5 - DISTANCES], axis=1).reshape(-1, 2, 1, 1)


@pytest.fixture
def measured(make_request, make_probe_result, make_runner):
    """Measures, after no attack at all, within epsilon 0.12."""

    def run(*, searched, **changes):
        arguments = {"images": IMAGES, "labels": [1] * 4, "epsilon": 0.12, **changes}
        request = make_request(model=NET, **arguments)
        budget = dataclasses.replace(request.budget, searched=searched)
        request = dataclasses.replace(request, budget=budget)
        runner, records = make_runner(request), []
        found = measure_all(
            request,
            make_probe_result(NET, classes=2),
            np.ones(4, int),
            runner=runner,
            records=records,
            ledger=Ledger(None, {}, Progress()),
            progress=Progress(),
        )
        return found, runner, records

    return run


def test_what_the_curve_breaks_within_epsilon_counts(measured):
    found, runner, records = measured(searched=0, curve=[0.07, 0.13])
    assert found.smallest is None
    assert found.adaptive.tolist() == [[True, True, False, False]]
    assert [each.correct for each in found.curve.estimates] == [4, 2, 2, 1]
    (record,) = records
    assert record["name"] == "PGD-20 at smaller epsilons"
    assert (record["images"], record["accuracy_after"]) == (2, 0.5)
    assert runner.records.wrong[record["key"]].tolist() == [1, 1, -1, -1]


def test_smallest_perturbations_within_epsilon_count(measured):
    found, _, records = measured(searched=3, curve=[])
    assert found.adaptive.tolist() == [[True, True, True, False]]
    assert found.curve.estimates[-1].correct == 1
    assert records[0]["name"].endswith("at smaller epsilons, FMN-100")


def test_the_curve_knows_the_smallest_perturbations(measured, monkeypatch):
    broken = [0.04, 0.08, 0.13]
    expected = [4, 3, 2, 1, 1]
    found, _, _ = measured(searched=4, curve=broken)
    assert [each.correct for each in found.curve.estimates] == expected
    # The nearest image is not attacked again.
    monkeypatch.setattr(PGD, "generate", lambda *_, **__: pytest.fail("attacked"))
    found, _, _ = measured(searched=4, curve=[0.15])
    assert found.curve.estimates[-1].correct == 0


def test_nothing_found_is_no_attack(measured):
    found, _, records = measured(searched=0, curve=[])
    assert found.adaptive.tolist() == [[False] * 4]
    assert records == []
    assert found.gallery is found.example is None

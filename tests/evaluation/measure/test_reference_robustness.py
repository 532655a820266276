import dataclasses

import numpy as np
import pytest

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import evaluate_corruptions
from keras_advdef.evaluation._measure.reference_robustness import measure_reference
from keras_advdef.evaluation._run.ledger import Ledger
from tests.support.nets import linear_net
from tests.support.told import Told

# Class 1 where the first pixel is above the second; the reference scales that.
NET = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
REFERENCE = linear_net([[0.0, 0.0], [2.0, -2.0]], [0.0, 0.3])
IMAGES = np.array([[0.6, 0.5], [0.9, 0.2], [0.7, 0.4], [0.2, 0.8]], "float32")


@pytest.fixture
def measured(make_request):
    """Measures the reference, but for some changes of the request."""

    def measure(progress=None, **changes):
        settings = {
            "model": NET,
            "reference": REFERENCE,
            "images": IMAGES.reshape(4, 2, 1, 1),
            "labels": [1, 1, 1, 1],
            "epsilon": 0.2,
            "curve": [0.1, 0.3],
        }
        request = make_request(**{**settings, **changes})
        ledger = Ledger(None, {}, progress or Progress())
        return measure_reference(request, ledger, progress or Progress())

    return measure


def correct(estimates):
    return [each.correct for each in estimates]


class TestMeasureReference:
    def test_none_without_a_reference(self, measured):
        assert measured(reference=None) is None

    def test_accuracies_are_those_of_the_reference(self, measured):
        told = Told()
        found = measured(told)
        # Its margins 0.5, 1.7, 0.9 and -0.9 fall by four times epsilon.
        assert (found.clean.correct, found.clean.count) == (3, 4)
        assert found.attacked.correct == 2
        assert found.curve.epsilons == (0.0, 0.1, 0.2, 0.3)
        assert correct(found.curve.estimates) == [3, 3, 2, 1]
        assert told.lines == ["Attacking the reference, to compare with."]

    @pytest.mark.parametrize("budget", ["quick", "standard"])
    def test_a_few_attacks_suffice_in_every_budget(self, measured, budget):
        assert measured(budget=budget).attacks == ("PGD-20", "APGD-25 on dlr")

    def test_json(self, measured):
        data = measured().to_json()
        assert data.keys() == {"clean", "adaptive", "curve", "corruptions"}
        assert data["corruptions"] is None
        assert data["adaptive"]["attacks"] == ["PGD-20", "APGD-25 on dlr"]
        assert [point["epsilon"] for point in data["curve"]] == [0.0, 0.1, 0.2, 0.3]

    def test_corruptions_are_measured_as_for_the_model(self, measured):
        found = measured(corruptions=True)
        images = IMAGES.reshape(4, 2, 1, 1)
        expected = evaluate_corruptions(REFERENCE, images, [1] * 4, verbose=0)
        assert found.to_json()["corruptions"] == expected.to_json()

    def test_class_that_it_lacks_is_refused(self, measured):
        wider = linear_net([[0.0, 0.0], [1.0, -1.0], [0.0, 1.0]], [0.0, 0.0, 0.0])
        with pytest.raises(ValueError, match="classes"):
            measured(model=wider, labels=[1, 2, 1, 1])

    def test_is_kept_apart_from_the_model(self, make_request, tmp_path):
        request = make_request(
            model=NET,
            reference=REFERENCE,
            images=IMAGES.reshape(4, 2, 1, 1),
            labels=[1, 1, 1, 1],
        )
        ledger = Ledger(tmp_path, {}, Progress())
        first = measure_reference(request, ledger, Progress())
        parts = {path.name for path in tmp_path.glob("progress/*.part")}
        assert parts
        assert all(name.startswith("reference-") for name in parts)
        # The stored parts are taken, whatever the model is now.
        other = dataclasses.replace(request, reference=request.evaluated)
        again = measure_reference(other, ledger, Progress())
        ledger.close(finished=True)
        assert again.to_json() == first.to_json()

import json

import numpy as np
import pytest

from keras_advdef.evaluation._verdict.judgements import Judgements
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate

# Images that are wrong in 0, 1, 2, 3 and 4 of four draws.
WRONG = np.arange(4)[:, None] < np.arange(5)


def test_three_accuracies():
    judged = Judgements(WRONG)
    assert judged.draws == 4
    assert judged.mean.accuracy == 0.5
    assert judged.worst == AccuracyEstimate(1, 5)
    # Two of four are no majority.
    assert judged.majority == AccuracyEstimate(2, 5)


def test_text_says_which_is_which():
    worst, majority = AccuracyEstimate(1, 5), AccuracyEstimate(2, 5)
    assert str(Judgements(WRONG)) == (
        "the mean of 4 fresh draws of the model for each image (right in all of them: "
        f"{worst}; by majority vote: {majority})"
    )


def test_json():
    values = Judgements(WRONG).to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["draws"] == 4
    assert values["evaluations"] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    for name, accuracy in (("mean", 0.5), ("worst", 0.2), ("majority", 0.4)):
        assert values[name]["accuracy"] == pytest.approx(accuracy)
        assert values[name]["count"] == 5

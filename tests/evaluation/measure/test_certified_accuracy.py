import csv
import io

import keras
import numpy as np
import pytest

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import certify_intervals, evaluate_robustness
from keras_advdef.evaluation._measure.certified_accuracy import (
    measure_certified_accuracy,
)
from keras_advdef.evaluation._run.ledger import Ledger

_LABELS = np.array([0, 0, 1, 1, 0, 1])


def _linear_case():
    """Bright pixels on the left are class 0; margins 0.6, 0.2, 0.6, 0.2, and wrong."""
    net = keras.Sequential(
        [keras.Input((1, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    net.layers[-1].set_weights([np.eye(2), np.zeros(2)])
    left = np.array([0.8, 0.6, 0.2, 0.4, 0.3, 0.7])
    images = np.stack([left, 1.0 - left], axis=1).reshape((6, 1, 2, 1))
    return net, images.astype(np.float32)


@pytest.fixture(scope="module")
def report():
    net, images = _linear_case()
    return evaluate_robustness(
        net, images, _LABELS, epsilon=0.15, budget="quick", verbose=0
    )


def test_report_holds_both_ends(report):
    certified = report.data["certified_accuracy"]
    assert certified["norm"] == "linf"
    assert certified["epsilon"] == 0.15
    # Margins shrink by twice epsilon.
    assert certified["accuracy"] == 2 / 6
    assert certified["accuracy"] <= report.adaptive["accuracy"]
    assert "and at least 33.3 % (certified), linf" in report.headline
    assert "It is proved that 2 of them survive" in report.to_html()
    rows = csv.DictReader(io.StringIO(report.images))
    proved = [row["certified within epsilon"] for row in rows]
    assert proved == ["1", "0", "1", "0", "0", "0"]
    assert "| certified, whatever the attack" in report.to_markdown()


@pytest.fixture
def measured(make_request):
    def of(model, images, **changes):
        labels = np.arange(len(images)) % 2
        settings = {"model": model, "images": images, "labels": labels, **changes}
        request = make_request(**{"norm": "linf", "epsilon": 0.15, **settings})
        return measure_certified_accuracy(request, labels, Ledger(None, {}, Progress()))

    return of


def test_all_images_count(measured):
    net, images = _linear_case()
    many = np.concatenate([images[:4]] * 12)[:45]
    found = measured(net, many, batch_size=7)
    labels = np.arange(45) % 2
    expected = certify_intervals(net, many, labels, epsilon=0.15).certified
    np.testing.assert_array_equal(found.by_image, expected)
    assert 0 < found.estimate.correct < 45


def test_none_where_nothing_is_certified(measured):
    net, images = _linear_case()
    assert measured(net, images, epsilon=0.45) is None
    assert measured(net, images, norm="l2") is None
    noisy = keras.Sequential([keras.layers.UpSampling2D(), keras.layers.Flatten()])
    noisy.build((None, 1, 2, 1))
    assert measured(noisy, images) is None
    assert measured(lambda x: x, images) is None

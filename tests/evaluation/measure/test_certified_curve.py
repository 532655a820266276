import keras
import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import certify_cross_lipschitz, evaluate_robustness
from keras_advdef.evaluation._measure.certified_curve import measure_certified
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.models import SmoothedClassifier
from keras_advdef.surgery import parseval_network
from tests.support.nets import linear_net, small_net

# The decision boundary is where the pixels are equal; distances are in l2.
PIXELS = np.array([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]], "float32")
DISTANCES = np.abs(PIXELS[:, 0] - PIXELS[:, 1]) / np.sqrt(2)
# The last image is wrong.
LABELS = np.array([0, 0, 0, 0])


def linear_case():
    net = linear_net([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    return net, PIXELS.reshape(4, 2, 1, 1)


def evaluated(model, images, labels, *, epsilon=0.1, **options):
    report = evaluate_robustness(
        model,
        images,
        labels,
        epsilon=epsilon,
        norm="l2",
        attacks=[PGD(epsilon, norm="l2", steps=3)],
        curve=[],
        verbose=0,
        **options,
    )
    return report


@pytest.fixture(scope="module")
def report():
    return evaluated(*linear_case(), LABELS, epsilon=0.25)


@pytest.fixture
def certified_of(make_request):
    """Returns what a report says of the certificates of a model."""

    def of(model, images, labels, **changes):
        settings = {"model": model, "images": images, "labels": labels, **changes}
        request = make_request(**{"norm": "l2", **settings})
        found = measure_certified(
            request, np.asarray(labels), Ledger(None, {}, Progress())
        )
        return found and found.to_json()

    return of


def test_is_the_share_of_images_beyond_each_radius(report):
    certified = report.data["certified"]
    assert certified["method"] == "certify_cross_lipschitz"
    assert certified["norm"] == "l2"
    points = certified["curve"]
    assert (points[0]["radius"], points[0]["accuracy"]) == (0.0, 0.75)
    # Rounded to three digits, a point may exceed the radius slightly.
    assert points[-1]["radius"] == pytest.approx(DISTANCES[0], rel=5e-3)
    for point in points[1:-1]:
        assert point["accuracy"] == np.mean(DISTANCES[:3] >= point["radius"]) * 0.75
        assert point["count"] == 4


def test_attacks_never_go_below_it(report):
    points = report.data["certified"]["curve"]
    promised = min(p["accuracy"] for p in points if p["radius"] <= 0.25)
    assert report.data["adaptive"]["accuracy"] >= promised


def check_smoothed(one, other):
    assert one == other
    assert "smoothing" in one["method"]
    assert one["curve"][0]["accuracy"] in (0.5, 0.75)
    assert one["curve"][-1]["radius"] <= DISTANCES[0]


def test_smoothed_classifier_repeats(certified_of):
    net, images = linear_case()
    model = SmoothedClassifier(net, stddev=0.2, samples=20)
    check_smoothed(*(certified_of(model, images, LABELS, seed=3) for _ in "ab"))


@pytest.mark.nightly
def test_evaluation_of_a_smoothed_classifier_repeats(tmp_path):
    net, images = linear_case()
    model = SmoothedClassifier(net, stddev=0.2, samples=20)
    found = [
        evaluated(model, images, LABELS, output=tmp_path / name, seed=3)
        for name in ("one", "other")
    ]
    check_smoothed(*(report.data["certified"] for report in found))
    text = (tmp_path / "one" / "report.md").read_text(encoding="utf-8")
    assert "## Certified accuracy against l2 radius: randomized smoothing" in text


def test_parseval_network_by_its_margins(certified_of, digits):
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(16, activation="relu"),
            layers.Dense(3),
        ]
    )
    images, labels = digits.x_test[:6], digits.y_test[:6]
    assert certified_of(net, images, labels) is None
    found = certified_of(parseval_network(net), images, labels)
    assert found["method"] == "certify_lipschitz_margin"


def test_other_models_have_none(certified_of, digits):
    images, labels = digits.x_test[:4], digits.y_test[:4]
    pooled = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    of_any_size = keras.Sequential([keras.Input((None, None, 1)), *pooled])
    for model in (small_net(), small_net().__call__, of_any_size):
        assert certified_of(model, images, labels, norm="linf") is None


def test_radii_are_those_of_the_function():
    net, images = linear_case()
    radii = certify_cross_lipschitz(net, images, LABELS)
    np.testing.assert_allclose(radii[:3], DISTANCES[:3], rtol=1e-5)

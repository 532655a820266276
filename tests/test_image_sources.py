"""Whatever takes arrays of images also takes data sets, with equal results."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.evaluation import (
    certify_cross_lipschitz,
    certify_lipschitz_margin,
    evaluate_corruptions,
    evaluate_detector,
)
from keras_advdef.evaluation._request.identity import identity_of
from keras_advdef.layers import BitDepthReduction
from keras_advdef.models import FeatureSqueezingDetector, SmoothedClassifier
from tests.support.nets import linear_net

COUNT = 7
IMAGES = np.random.default_rng(0).uniform(size=(COUNT, 4, 4, 1)).astype("float32")
LABELS = np.arange(COUNT) % 2


@pytest.fixture(scope="module")
def net():
    weights = np.random.default_rng(1).normal(size=(2, 16))
    return linear_net(weights, [0.0, 0.0], shape=(4, 4, 1))


@pytest.fixture(scope="module")
def detector(net):
    return FeatureSqueezingDetector(net, [BitDepthReduction(2)])


@pytest.fixture(scope="module")
def hidden():
    layers = [keras.layers.Flatten(), keras.layers.Dense(4, activation="relu")]
    return keras.Sequential([keras.Input((4, 4, 1)), *layers, keras.layers.Dense(2)])


@pytest.fixture(scope="module")
def attack():
    return FGSM(0.1)


@pytest.fixture
def operations(net, hidden, detector, attack, make_request):
    """The operations that take images, with labels if they need them."""
    smoothed = SmoothedClassifier(net, stddev=0.1, samples=20)

    def detect(images, *_):
        attacked = {"noise": IMAGES}
        report = evaluate_detector(detector, images, attacked, labels=LABELS)
        return report.clean

    def corrupted(images, labels=None):
        settings = {"corruptions": ["fog"], "severities": [5], "verbose": 0}
        report = evaluate_corruptions(net, images, labels, **settings)
        return np.array([report.accuracies["fog"][5].correct])

    def request(images, labels=None):
        identity = identity_of(make_request(model=net, images=images, labels=labels))
        return np.array([identity["data"]])

    return {
        "generate": lambda *x: attack.generate(net, *x, verbose=0),
        "predict": lambda images, *_: attack.predict(net, images),
        "evaluate": request,
        "certify_lipschitz_margin": lambda *x: certify_lipschitz_margin(net, *x),
        "certify_cross_lipschitz": lambda *x: certify_cross_lipschitz(hidden, *x),
        "certify": lambda images, *_: smoothed.certify(images, samples=20, seed=0)[1],
        "classify": lambda images, *_: smoothed.classify(images, seed=0),
        "calibrate": lambda images, *_: np.array(detector.calibrate(images, 0.2)),
        "evaluate_corruptions": corrupted,
        "evaluate_detector": detect,
    }


NAMES = [
    "generate",
    "predict",
    "evaluate",
    "certify_lipschitz_margin",
    "certify_cross_lipschitz",
    "certify",
    "classify",
    "calibrate",
    "evaluate_corruptions",
    "evaluate_detector",
]


class Batches(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return 3

    def __getitem__(self, index):
        rows = slice(3 * index, 3 * index + 3)
        return IMAGES[rows], LABELS[rows]


def batched():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(3)


@pytest.mark.parametrize("name", NAMES)
def test_data_sets_give_what_arrays_give(name, operations):
    operation = operations[name]
    expected = operation(IMAGES, LABELS)
    for source in (batched(), batched().filter(lambda x, y: True), Batches()):
        np.testing.assert_array_equal(operation(source), expected)
    for images in (tf.constant(IMAGES), {"image": IMAGES}, [IMAGES]):
        np.testing.assert_array_equal(operation(images, LABELS), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_taken_is_refused_in_a_sentence(name, operations):
    with pytest.raises(TypeError, match="images` to be an array, a tensor, a `tf"):
        operations[name]((IMAGES, LABELS) for _ in range(1))
    # An evaluation reads only as much as its budget needs.
    if name != "evaluate":
        with pytest.raises(ValueError, match="images` to be a data set that has an en"):
            operations[name](batched().repeat())


def test_evaluation_says_how_much_it_took(make_request, net):
    endless = batched().repeat()
    request = make_request(model=net, images=endless, labels=None)
    assert (request.count, request.given) == (200, None)
    request = make_request(model=net, images=batched(), labels=None)
    assert (request.count, request.given) == (COUNT, COUNT)
    with pytest.raises(ValueError, match="labels` to be given"):
        make_request(model=net, images=batched().map(lambda x, y: x), labels=None)


@pytest.mark.parametrize("source", [batched, Batches])
def test_calibrating_says_how_much_it_took(detector, source, capsys):
    detector.calibrate(source())
    said = f"FeatureSqueezingDetector calibrated on {COUNT} images of the data set.\n"
    assert capsys.readouterr().out == said
    detector.calibrate(source(), verbose=0)
    detector.calibrate(IMAGES)
    assert capsys.readouterr().out == ""

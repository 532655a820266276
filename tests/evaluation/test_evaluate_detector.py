import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.evaluation import evaluate_detector, evaluate_robustness
from keras_advdef.layers import BitDepthReduction, MedianSmoothing
from keras_advdef.models import FeatureSqueezingDetector, SqueezingAware
from tests.support.nets import linear_net

EPSILON = 0.2


@pytest.fixture
def detector(trained_net, digits):
    squeezers = [BitDepthReduction(3), MedianSmoothing(2)]
    detector = FeatureSqueezingDetector(trained_net, squeezers)
    detector.calibrate(digits.x_train)
    return detector


class TestEvaluateDetector:
    def test_an_attack_that_knows_of_the_detector_passes_it(self, detector, digits):
        images, labels = digits.x_test[:60], digits.y_test[:60]
        naive = PGD(EPSILON, steps=20).generate(
            detector.classifier, images, labels, seed=0, verbose=0
        )
        aware = PGD(EPSILON, steps=40, loss=SqueezingAware())
        aware = aware.generate(detector, images, labels, seed=0, verbose=0)
        report = evaluate_detector(
            detector, images, {"naive": naive, "aware": aware}, labels=labels
        )
        assert len(report.attacked["naive"]) > 20
        rates = [report.detection_rate(name) for name in ("naive", "aware")]
        assert rates[1].accuracy < rates[0].accuracy - 0.2
        unnoticed = [report.unnoticed(name).correct for name in ("naive", "aware")]
        assert unnoticed[1] > unnoticed[0] + 5

    def test_counts_only_images_that_fool_the_classifier(self, detector, digits):
        images, labels = digits.x_test[:40], digits.y_test[:40]
        found = detector.predict(images, verbose=0)
        right = found["probabilities"].argmax(axis=-1) == labels
        report = evaluate_detector(detector, images, {"clean": images}, labels=labels)
        np.testing.assert_array_equal(report.clean, found["score"])
        np.testing.assert_array_equal(report.attacked["clean"], found["score"][~right])

    def test_labels_in_every_form(self, detector, digits):
        images, labels = digits.x_test[:40], digits.y_test[:40]
        one_hot = np.eye(3)[labels]
        fooled = [
            evaluate_detector(detector, images, {"any": images}, labels=each).attacked
            for each in (labels, labels[:, None], one_hot)
        ]
        for each in fooled[1:]:
            np.testing.assert_array_equal(each["any"], fooled[0]["any"])
        with pytest.raises(ValueError, match="one class per image"):
            evaluate_detector(
                detector, images, {"any": images}, labels=0.9 * one_hot + 0.1 / 3
            )

    def test_a_net_of_one_unit(self, digits):
        images = digits.x_test[:30]
        middle = np.median(images.sum(axis=(1, 2, 3)))
        net = linear_net(np.ones((1, 64)), [-middle], shape=(8, 8, 1))
        detector = FeatureSqueezingDetector(net, [BitDepthReduction(3)])
        right = (net.predict(images, verbose=0) > 0).astype(int)
        assert 0 < right.sum() < 30
        for labels, wrong in ((right, 0), (1 - right, 30)):
            report = evaluate_detector(detector, images, {"any": images}, labels=labels)
            assert len(report.attacked["any"]) == wrong

    def test_rejects_other_numbers_of_labels(self, detector, digits):
        with pytest.raises(ValueError, match="as many images for PGD as there are"):
            evaluate_detector(
                detector,
                digits.x_test,
                {"PGD": digits.x_test[:3]},
                labels=digits.y_test,
            )


@pytest.mark.slow
def test_a_detector_is_attacked_as_one(detector, digits):
    images, labels = digits.x_test[:80], digits.y_test[:80]
    settings = {"epsilon": EPSILON, "budget": "quick", "curve": [], "verbose": 0}
    report = evaluate_robustness(detector, images, labels, **settings)
    verdicts = {check["name"]: check for check in report.checks}
    assert verdicts["no_detector"]["passed"]
    assert "declares that it is a detector" in verdicts["no_detector"]["detail"]
    found = detector.predict(images, verbose=0)
    right = found["probabilities"].argmax(axis=-1) == labels
    clean = float((right & ~found["verdict"]).mean())
    assert report.clean["accuracy"] == pytest.approx(clean)
    assert report.adaptive["accuracy"] < report.naive["accuracy"] - 0.1
    assert any("SqueezingAware" in each for each in report.adaptive["attacks"])

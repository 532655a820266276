import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.layers import BitDepthReduction
from keras_advdef.models import FeatureSqueezingDetector, SqueezingAware


@pytest.fixture
def detector(net, images):
    net.layers[-1].kernel.assign(20.0 * net.layers[-1].kernel)
    detector = FeatureSqueezingDetector(net, [BitDepthReduction(1)])
    detector.calibrate(images, 0.5)
    return detector


class TestSqueezingAware:
    def test_equal_to_the_formula(self, detector, images, labels):
        loss = SqueezingAware(confidence=0.5, weight=3.0)
        found = loss(LogitsFunction(detector), tf.constant(images), tf.constant(labels))
        logits = detector.classifier(images).numpy()
        score = detector(images)["score"].numpy()
        own = logits[np.arange(6), labels]
        others = np.where(np.eye(3)[labels] > 0, -np.inf, logits).max(axis=1)
        missing = np.maximum(own - others + 0.5, 0.0)
        noticed = np.maximum(score - float(detector.threshold.numpy()), 0.0)
        assert (noticed > 0).any()
        assert (missing == 0).any()
        np.testing.assert_allclose(found, -missing - 3.0 * noticed, atol=1e-4)

    def test_rejects_other_models_and_targets(self, net, images, labels):
        attack = PGD(0.1, steps=1, loss=SqueezingAware())
        with pytest.raises(TypeError, match="a `FeatureSqueezingDetector`"):
            attack.generate(net, images, labels, verbose=0)
        with pytest.raises(ValueError, match="targeted"):
            PGD(0.1, targeted=True, loss=SqueezingAware())
        with pytest.raises(ValueError, match="`SqueezingAware` expects `weight`"):
            SqueezingAware(weight=0.0)

    def test_config(self):
        loss = SqueezingAware(confidence=0.5, weight=3.0)
        assert SqueezingAware.from_config(loss.get_config()).confidence == 0.5

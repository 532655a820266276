import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.logits import LogitsFunction
from keras_advdef.models._detector import Detector


class Brightness(Detector):
    """Flags bright images."""

    largest_score = 1.0
    steepness = 5.0

    def scored(self, images, training):
        logits = LogitsFunction(self.classifier, training=training)(images)
        return logits, tf.reduce_mean(images, axis=[1, 2, 3])


@pytest.fixture
def detector(net):
    return Brightness(net)


class TestDetector:
    def test_flags_nothing_before_it_is_calibrated(self, detector):
        white = np.ones((2, 8, 8, 1), "float32")
        assert not detector(white)["verdict"].numpy().any()

    @pytest.mark.parametrize(("rate", "flagged"), [(0.0, 0), (0.25, 2), (0.5, 4)])
    def test_calibrate_flags_that_share(self, rate, flagged, detector):
        levels = np.linspace(0.1, 0.8, 8, dtype="float32")[:, None, None, None]
        images = np.tile(levels, (1, 8, 8, 1))
        threshold = detector.calibrate(images, rate)
        assert threshold == pytest.approx(0.8 - 0.1 * flagged)
        found = detector.predict(images, verbose=0)
        assert found["verdict"].sum() == flagged
        logits = LogitsFunction(detector)(tf.constant(images)).numpy()
        np.testing.assert_array_equal(logits.argmax(axis=1) == 3, found["verdict"])

    def test_last_logit_is_ahead_by_the_score(self, detector, images):
        detector.threshold.assign(0.4)
        logits = LogitsFunction(detector)(tf.constant(images)).numpy()
        ahead = 5.0 * (images.mean(axis=(1, 2, 3)) - 0.4)
        found = logits[:, 3] - logits[:, :3].max(axis=1)
        np.testing.assert_allclose(found, ahead, atol=1e-5)

    def test_symbolic_outputs(self, detector):
        outputs = detector(keras.Input((8, 8, 1)))
        assert outputs["probabilities"].shape == (None, 3)
        assert outputs["verdict"].dtype == "bool"

    def test_rejects_a_rate_by_the_subclass_s_name(self, detector, images):
        with pytest.raises(ValueError, match=r"`Brightness.calibrate` expects"):
            detector.calibrate(images, 1.0)
        with pytest.raises(ValueError, match="at least one image"):
            detector.calibrate(images[:0])

    def test_base_scores_nothing(self, detector, images):
        with pytest.raises(NotImplementedError, match="must write `scored`"):
            Detector.scored(detector, images, False)

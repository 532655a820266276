import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.cards import cards_in
from keras_advdef.core.gradients import bypass_defences
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.layers import BitDepthReduction, MedianSmoothing
from keras_advdef.models import FeatureSqueezingDetector
from keras_advdef.models.feature_squeezing_detector import distances
from tests.support.fresh_process import run_fresh
from tests.support.nets import small_net

SERVE = """
import json, sys
sys.modules["keras_advdef"] = None
import numpy as np, tensorflow as tf
folder = sys.argv[1]
images = np.load(folder + "/images.npy", allow_pickle=False)
model = tf.saved_model.load(folder + "/served")
found = model.serve(images)
print(json.dumps({name: value.numpy().tolist() for name, value in found.items()}))
"""


def squeezers():
    return [BitDepthReduction(1), MedianSmoothing(2)]


@pytest.fixture
def detector(net):
    # Confident, so that squeezing moves the softmax.
    net.layers[-1].kernel.assign(20.0 * net.layers[-1].kernel)
    return FeatureSqueezingDetector(net, squeezers())


class TestFeatureSqueezingDetector:
    def test_score_is_the_largest_distance_of_softmaxes(self, detector, net, images):
        found = detector(images)
        assert set(found) == {"probabilities", "score", "verdict"}
        own = tf.nn.softmax(net(images)).numpy()
        np.testing.assert_allclose(found["probabilities"], own, atol=1e-6)
        apart = [
            np.abs(tf.nn.softmax(net(squeeze(images))).numpy() - own).sum(axis=1)
            for squeeze in squeezers()
        ]
        assert np.ptp(apart) > 0.1
        np.testing.assert_allclose(found["score"], np.max(apart, axis=0), atol=1e-5)
        assert not found["verdict"].numpy().any()

    def test_a_softmax_at_the_end_changes_nothing(self, detector, net, images):
        probable = keras.Sequential([net, keras.layers.Softmax()])
        other = FeatureSqueezingDetector(probable, squeezers())
        for name, value in detector(images).items():
            np.testing.assert_allclose(other(images)[name], value, atol=1e-5)

    def test_maps_without_channels(self, detector, net, images):
        inputs = keras.Input((8, 8))
        maps = keras.Model(inputs, net(keras.layers.Reshape((8, 8, 1))(inputs)))
        other = FeatureSqueezingDetector(maps, squeezers())
        expected = detector(images)
        for given in (images, images[..., 0]):
            for name, value in other(given).items():
                np.testing.assert_allclose(value, expected[name], atol=1e-5)

    def test_score_is_zero_where_squeezing_changes_nothing(self, net, images):
        same = FeatureSqueezingDetector(net, [keras.layers.Identity()])
        # Two calls on one batch may differ in the last bit on some processors.
        np.testing.assert_allclose(same(images)["score"], 0.0, atol=1e-7)

    @pytest.mark.parametrize("rate", [0.0, 0.05, 0.25, 0.5])
    def test_calibrate_takes_xus_quantile(self, detector, rate):
        images = np.random.default_rng(1).uniform(0, 1, (40, 8, 8, 1))
        threshold = detector.calibrate(images, rate)
        found = detector.predict(images, verbose=0)
        expected = np.sort(found["score"])[int(40 - round(40 * rate)) - 1]
        assert threshold == pytest.approx(expected)
        # Strictly above, so that no more than the wanted share is flagged.
        assert found["verdict"].sum() == round(40 * rate)

    def test_calibrates_on_a_data_set_with_labels(self, detector, images):
        data = tf.data.Dataset.from_tensor_slices((images, np.zeros(6))).batch(4)
        assert detector.calibrate(data, 0.2) == pytest.approx(
            detector.calibrate(images, 0.2)
        )

    def test_last_logit_wins_exactly_where_the_verdict_is_true(self, detector):
        images = np.random.default_rng(1).uniform(0, 1, (40, 8, 8, 1))
        detector.calibrate(images, 0.3)
        logits = LogitsFunction(detector)(tf.constant(images, tf.float32))
        assert logits.shape == (40, 4)
        verdict = detector.predict(images, verbose=0)["verdict"]
        assert 0 < verdict.sum() < 40
        np.testing.assert_array_equal(logits.numpy().argmax(axis=1) == 3, verdict)
        own = detector.classifier(images)
        np.testing.assert_allclose(logits[:, :3], own, atol=1e-5)

    def test_members_are_the_image_and_its_copies(self, detector, net, images):
        members = detector.member_logits(images)
        assert members.shape == (6, 3, 3)
        np.testing.assert_allclose(members[:, 0], net(images), atol=1e-5)
        squeezed = net(BitDepthReduction(1)(images))
        np.testing.assert_allclose(members[:, 1], squeezed, atol=1e-5)

    def test_an_unaware_attacker_sees_no_detector(self, detector, images):
        detector.calibrate(images, 0.5)
        with bypass_defences():
            logits = LogitsFunction(detector)(tf.constant(images)).numpy()
        assert (logits.argmax(axis=1) < 3).all()

    def test_gradients_of_every_logit_reach_the_images(self, detector, images):
        function, x = LogitsFunction(detector), tf.constant(images)
        for index in (0, 3):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(function(x)[:, index])
            assert np.mean(tape.gradient(value, x).numpy() != 0) > 0.3

    def test_saved_threshold_and_scores(self, detector, images, tmp_path):
        detector.calibrate(images, 0.3)
        detector.save(tmp_path / "detector.keras")
        copy = keras.models.load_model(tmp_path / "detector.keras", safe_mode=True)
        for name, value in detector.predict(images, verbose=0).items():
            np.testing.assert_array_equal(copy.predict(images, verbose=0)[name], value)
        assert float(copy.threshold.numpy()) < 2.0

    @pytest.mark.nightly
    def test_served_without_the_package(self, detector, images, tmp_path):
        detector.calibrate(images, 0.3)
        np.save(tmp_path / "images.npy", images)
        detector.export(tmp_path / "served", verbose=False)
        served = run_fresh(SERVE, tmp_path)
        for name, value in detector.predict(images, verbose=0).items():
            np.testing.assert_allclose(served[name], value, atol=1e-5)
        assert "FeatureSqueezingDetector" in cards_in(tmp_path / "served")

    def test_config_is_json(self, detector):
        config = json.loads(json.dumps(detector.get_config()))
        copy = FeatureSqueezingDetector.from_config(config)
        assert [type(each) for each in copy.squeezers] == [
            BitDepthReduction,
            MedianSmoothing,
        ]

    def test_half_precision_classifier(self, images):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            detector = FeatureSqueezingDetector(small_net(), squeezers())
        finally:
            keras.config.set_dtype_policy("float32")
        found = detector.predict(images, verbose=0)
        assert found["score"].dtype == "float32"
        assert np.isfinite(found["score"]).all()

    def test_rejects(self, net, images):
        with pytest.raises(TypeError, match="expects `classifier` to be a `Model`"):
            FeatureSqueezingDetector(len, squeezers())
        with pytest.raises(ValueError, match="expects `squeezers` to be at least one"):
            FeatureSqueezingDetector(net, [])
        with pytest.raises(TypeError, match="expects `squeezers` to be a `Layer`"):
            FeatureSqueezingDetector(net, ["median"])
        detector = FeatureSqueezingDetector(net, squeezers())
        for rate in (-0.1, 1.0):
            with pytest.raises(ValueError, match="expects `false_positive_rate`"):
                detector.calibrate(images, rate)
        with pytest.raises(ValueError, match="at least one image"):
            detector.calibrate(images[:0])


class TestDistances:
    def test_of_opposite_certainties_is_two(self):
        members = tf.constant([[[90.0, 0.0], [0.0, 90.0]], [[1.0, 1.0], [5.0, 5.0]]])
        np.testing.assert_allclose(distances(members), [[2.0], [0.0]], atol=1e-6)

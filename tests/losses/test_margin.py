import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.losses import Margin

_LOGITS = [[2.0, 1.0, 0.0, -1.0]]


class TestMargin:
    @pytest.mark.parametrize(
        ("label", "margin"),
        # The largest other logit minus the label's: 1 - 2, 2 - 1, 2 - 0, 2 - (-1).
        [(0, -1.0), (1, 1.0), (2, 2.0), (3, 3.0)],
    )
    def test_by_hand(self, label, margin):
        one_hot = keras.utils.to_categorical([label], 4)
        for labels in ([label], [[label]], np.array([label], np.uint8), one_hot):
            assert float(Margin()(labels, _LOGITS)) == margin

    def test_matches_numpy(self):
        generator = np.random.default_rng(0)
        logits = generator.normal(scale=10, size=(50, 7)).astype(np.float32)
        labels = generator.integers(0, 7, 50)
        expected = [
            np.delete(row, label).max() - row[label]
            for row, label in zip(logits, labels, strict=True)
        ]
        margins = Margin(reduction=None)(labels, logits)
        np.testing.assert_allclose(margins, expected, rtol=1e-6)
        assert float(Margin()(labels, logits)) == pytest.approx(np.mean(expected))
        total = Margin(reduction="sum")(labels, logits)
        assert float(total) == pytest.approx(np.sum(expected), rel=1e-5)

    def test_classes_masked_by_infinity_do_not_count(self):
        logits = np.array([[1.0, -np.inf, 0.0]], np.float32)
        assert float(Margin()([0], logits)) == -1.0

    def test_positive_where_misclassified(self):
        logits = np.array([[1.0, 3.0, 2.0], [-5.0, -7.0, -6.0]], np.float32)
        margins = Margin(reduction=None)([0, 0], logits).numpy()
        assert (margins > 0).tolist() == (logits.argmax(1) != 0).tolist()

    def test_ignores_a_constant_and_grows_with_a_factor(self):
        base = Margin()([1], _LOGITS)
        assert float(Margin()([1], np.array(_LOGITS) + 8)) == float(base)
        assert float(Margin()([1], np.array(_LOGITS) * 8)) == 8 * float(base)

    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_gradient_does_not_saturate(self, scale):
        # +1 for the best other class and -1 for the label, whatever the logits' size.
        logits = scale * tf.constant(_LOGITS)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            margin = Margin()([0], logits)
        assert tape.gradient(margin, logits).numpy().tolist() == [[-1.0, 1.0, 0, 0]]

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    def test_dtype(self, dtype):
        margin = Margin(dtype=dtype)([3], _LOGITS)
        assert margin.dtype == dtype
        assert float(margin) == 3.0

    def test_sample_weight(self):
        logits = np.repeat(_LOGITS, 2, axis=0)
        # (1 * (-1) + 3 * 1) / 2.
        weighted = Margin()([0, 1], logits, sample_weight=[1.0, 3.0])
        assert float(weighted) == 1.0

    def test_equal_compiled(self):
        function = tf.function(Margin(), jit_compile=True)
        assert float(function(tf.constant([2]), tf.constant(_LOGITS))) == 2.0

    def test_round_trip(self):
        margin = keras.losses.deserialize(
            keras.losses.serialize(Margin(reduction="sum", name="other"))
        )
        assert type(margin) is Margin
        assert (margin.reduction, margin.name) == ("sum", "other")

    def test_trains_a_model(self, tmp_path):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        model.compile("sgd", Margin())
        arrays = np.ones((4, 2)), np.array([0, 1, 2, 0])
        first = model.evaluate(*arrays, verbose=0)
        model.fit(*arrays, epochs=3, verbose=0)
        assert model.evaluate(*arrays, verbose=0) < first
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded.loss) is Margin

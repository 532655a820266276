import keras
import numpy as np
import pytest

from keras_advdef.losses import DifferenceOfLogitsRatio, Margin

LOGITS = np.array([[2.0, 1.0, 0.0, -1.0]], "float32")


class TestDifferenceOfLogitsRatio:
    @pytest.mark.parametrize(("label", "value"), [(0, -0.5), (1, 0.5), (3, 1.5)])
    def test_fixture(self, label, value):
        assert float(DifferenceOfLogitsRatio()([label], LOGITS)) == pytest.approx(value)

    def test_shift_and_scale_change_nothing(self):
        generator = np.random.default_rng(0)
        logits = generator.normal(size=(20, 5)).astype("float32")
        labels = generator.integers(0, 5, 20)
        loss = DifferenceOfLogitsRatio(reduction=None)
        plain = loss(labels, logits)
        np.testing.assert_allclose(plain, loss(labels, 1e3 * logits + 7), rtol=1e-3)

    def test_sign_tells_what_is_misclassified(self):
        logits = np.random.default_rng(1).normal(size=(30, 4)).astype("float32")
        values = DifferenceOfLogitsRatio(reduction=None)(np.zeros(30, int), logits)
        np.testing.assert_array_equal(values > 0, logits.argmax(-1) != 0)

    def test_with_two_classes_it_is_the_margin(self):
        logits = LOGITS[:, :2]
        assert float(DifferenceOfLogitsRatio()([0], logits)) == float(
            Margin()([0], logits)
        )

    def test_equal_logits_give_no_nan(self):
        assert float(DifferenceOfLogitsRatio()([0], np.ones((1, 4)))) == 0.0

    def test_configuration(self):
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(DifferenceOfLogitsRatio())
        )
        assert float(copy([0], LOGITS)) == -0.5

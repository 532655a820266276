import keras
import numpy as np
import pytest

import keras_advdef
from keras_advdef.attacks.losses import ClassificationLoss
from keras_advdef.losses import Margin

CONTRACT = [{"loss": keras_advdef.losses.Margin()}]

LOGITS = np.array([[2.0, 1.0, 0.0, -1.0]] * 4, "float32")


class TestClassificationLoss:
    def test_cross_entropy_of_appendix_b(self):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        values = ClassificationLoss(loss).from_logits(LOGITS, np.arange(4), None)
        expected = [0.44018970, 1.44018970, 2.44018970, 3.44018970]
        np.testing.assert_allclose(values, expected, atol=1e-6)

    def test_round_trip(self):
        loss = ClassificationLoss(Margin())
        copy = ClassificationLoss.from_config(loss.get_config())
        assert isinstance(copy.loss, Margin)

    def test_rejects_a_name(self):
        with pytest.raises(TypeError, match="`loss` to be a `Loss`"):
            ClassificationLoss("mse")

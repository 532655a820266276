import keras
import numpy as np
import pytest

from keras_advdef.models._classifier_model import ClassifierModel
from tests.support.nets import small_net


@keras.saving.register_keras_serializable("tests")
class Sharpened(ClassifierModel):
    """The simplest model of one classifier."""

    def __init__(self, classifier, *, factor=2.0, **kwargs):
        super().__init__(classifier, **kwargs)
        self.factor = factor
        self.connect()

    def logits(self, images, training=False):
        return self.factor * self.classifier(images, training=training)

    def call(self, images, training=None):
        return keras.ops.softmax(self.logits(images, training=bool(training)))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class TestClassifierModel:
    def test_knows_its_inputs_before_any_call(self, net, tmp_path):
        model = Sharpened(net)
        assert model.built
        model.export(tmp_path / "served", verbose=False)
        symbolic = model(keras.Input((8, 8, 1)))
        assert (symbolic.shape, symbolic.dtype) == ((None, 3), "float32")

    def test_a_classifier_without_a_graph_is_built_by_the_first_images(self, images):
        plain = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
        assert Sharpened(plain)(images).shape == (6, 2)

    def test_saved_with_its_classifier(self, net, images, tmp_path):
        model = Sharpened(net, factor=3.0)
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
        assert copy.factor == 3.0
        found = (each.predict(images, verbose=0) for each in (model, copy))
        np.testing.assert_array_equal(*found)

    def test_rejects_what_is_no_model(self):
        with pytest.raises(TypeError, match="`Sharpened` expects `classifier`"):
            Sharpened(len)

    def test_base_has_no_logits(self, images):
        with pytest.raises(NotImplementedError, match="must write `logits`"):
            ClassifierModel(small_net()).logits(images)

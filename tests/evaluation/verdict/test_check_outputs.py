import keras
import numpy as np
import pytest

from keras_advdef.evaluation._verdict.check_outputs import check_outputs
from keras_advdef.layers import BitDepthReduction
from keras_advdef.models import FeatureSqueezingDetector
from tests.support.nets import linear_net

LOGITS = np.zeros((1, 2))


def _net(classes, bias=0.0):
    return linear_net(np.ones((classes, 2)), np.full(classes, bias))


def test_accepts_finite_logits(make_request):
    check_outputs(make_request(), LOGITS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rejects_others(make_request, value):
    with pytest.raises(ValueError, match="`model` to be a model with finite logits"):
        check_outputs(make_request(), np.array([[0.0, value]]))


@pytest.mark.parametrize("name", ["reference", "surrogate"])
class TestCompanions:
    def test_accepts_what_fits(self, make_request, name):
        check_outputs(make_request(**{name: _net(2)}), LOGITS)

    def test_what_stands_for_adversarial_is_no_class(self, make_request, name):
        detector = FeatureSqueezingDetector(_net(2), [BitDepthReduction(3)])
        request = make_request(model=detector, **{name: _net(2)})
        check_outputs(request, np.zeros((1, 3)))
        check_outputs(make_request(**{name: detector}), LOGITS)

    def test_other_classes(self, make_request, name):
        text = f"`{name}` to be a model with 2 classes.*{name}='a model with 3'"
        with pytest.raises(ValueError, match=text):
            check_outputs(make_request(**{name: _net(3)}), LOGITS)

    @pytest.mark.parametrize("bias", [np.nan, np.inf])
    def test_outputs_that_are_not_finite(self, make_request, name, bias):
        with pytest.raises(ValueError, match=f"`{name}` to be a model with finite"):
            check_outputs(make_request(**{name: _net(2, bias)}), LOGITS)

    def test_the_last_image_of_the_last_batch(self, make_request, name):
        images = np.linspace(0.0, 0.9, 10).reshape(5, 2, 1, 1)
        text = f"`{name}` to be a model with finite.* for image 4, counted from 0"
        request = make_request(images=images, labels=[0] * 5, batch_size=2)
        check_outputs(request, LOGITS)
        request = make_request(
            images=images, labels=[0] * 5, batch_size=2, **{name: _nan_above(0.85)}
        )
        with pytest.raises(ValueError, match=text):
            check_outputs(request, LOGITS)


def _nan_above(limit):
    """A net that returns NaN for images with a pixel above the limit."""

    @keras.saving.register_keras_serializable("tests")
    class RootOfRest(keras.layers.Layer):
        def call(self, images):
            return keras.ops.sqrt(limit - images)

    return keras.Sequential(
        [
            keras.Input((2, 1, 1)),
            RootOfRest(),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )

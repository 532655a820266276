import numpy as np
import pytest

from keras_advdef.objectives import AdversarialCrossEntropy
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import sparse_loss

CONTRACT = [{}, {"clean_weight": 0.5}]


class TestAdversarialCrossEntropy:
    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    def test_the_weight_multiplies_the_clean_term(self, weight, net, images, labels):
        model = AdversarialTrainingModel(net)
        model.compile("sgd", sparse_loss())
        adversarial = np.clip(images + 0.2, 0, 1)
        objective = AdversarialCrossEntropy(weight)
        losses, clean, outputs = objective(model, images, labels, adversarial)
        parts = [float(sparse_loss()(labels, net(x))) for x in (images, adversarial)]
        expected = weight * parts[0] + (1 - weight) * parts[1]
        np.testing.assert_allclose(np.mean(losses), expected, rtol=1e-5)
        assert (clean is None) is (weight == 0.0)
        np.testing.assert_array_equal(outputs, net(adversarial))

    @pytest.mark.parametrize("weight", [-0.1, 1.1, None])
    def test_rejects(self, weight):
        with pytest.raises(ValueError, match="expects `clean_weight`"):
            AdversarialCrossEntropy(weight)

import numpy as np

from keras_advdef.objectives import CrossEntropy
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import sparse_loss


class TestCrossEntropy:
    def test_is_the_compiled_loss_on_clean_images(self, net, images, labels):
        model = AdversarialTrainingModel(net)
        model.compile("sgd", sparse_loss())
        losses, clean, adversarial = CrossEntropy()(model, images, labels, None)
        expected = sparse_loss()(labels, net(images))
        np.testing.assert_allclose(np.mean(losses), expected, rtol=1e-6)
        np.testing.assert_array_equal(clean, net(images))
        assert adversarial is None

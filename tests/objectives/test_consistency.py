import keras
import numpy as np
import pytest
import scipy.special

from keras_advdef.layers import RandomNoise
from keras_advdef.objectives import Consistency
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import sparse_loss


class Draws:
    """Stands for a training model whose passes return given logits in turn."""

    def __init__(self, logits):
        self.logits = [keras.ops.convert_to_tensor(each) for each in logits]
        self.passes = 0

    def __call__(self, images, training):
        assert training
        self.passes += 1
        return self.logits[self.passes - 1]

    def logits_of(self, outputs):
        return outputs

    def example_losses(self, labels, outputs):
        return keras.losses.sparse_categorical_crossentropy(labels, outputs, True)


class TestConsistency:
    def test_by_hand(self):
        rng = np.random.default_rng(0)
        logits = rng.normal(size=(3, 2, 4)).astype("float32")
        model = Draws(logits)
        objective = Consistency(draws=3, weight=2.0, entropy_weight=0.7)
        losses, clean, attacked = objective(model, None, np.array([1, 3]), None)
        chances = scipy.special.softmax(logits, axis=-1)
        mean = chances.mean(axis=0)
        own = -np.log(chances[:, [0, 1], [1, 3]]).mean(axis=0)
        apart = scipy.special.rel_entr(mean, chances).sum(axis=-1).mean(axis=0)
        entropy = scipy.special.entr(mean).sum(axis=-1)
        np.testing.assert_allclose(losses, own + 2.0 * apart + 0.7 * entropy, rtol=1e-5)
        assert model.passes == 3
        np.testing.assert_array_equal(clean, logits[0])
        assert attacked is None

    def test_trains_without_an_attack(self, net, images, labels):
        noisy = keras.Sequential([RandomNoise(0.1, seed=0), net])
        model = AdversarialTrainingModel(noisy, objective=Consistency(weight=1.0))
        model.compile(keras.optimizers.Adam(0.01), sparse_loss())
        history = model.fit(images, labels, epochs=4, verbose=0).history["loss"]
        assert history[-1] < history[0]

    @pytest.mark.parametrize(
        ("name", "value"), [("draws", 1), ("weight", -1.0), ("entropy_weight", -1.0)]
    )
    def test_rejects(self, name, value):
        with pytest.raises(ValueError, match=f"`Consistency` expects `{name}`"):
            Consistency(**{name: value})

import keras
import numpy as np
import pytest

from keras_advdef.attacks import FGSM
from keras_advdef.callbacks import PerturbationSchedule
from keras_advdef.objectives import IntervalBounds
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net, sparse_loss


@pytest.fixture
def model():
    model = AdversarialTrainingModel(small_net(), FGSM(0.3))
    model.compile("sgd", sparse_loss())
    return model


class TestPerturbationSchedule:
    def test_counts_steps_across_calls_of_fit(self, model, images, labels):
        seen = []
        ramp = keras.optimizers.schedules.PolynomialDecay(0.0, 8, 0.4, power=1.0)
        schedule = PerturbationSchedule(lambda step: seen.append(step) or ramp(step))
        for _ in range(2):
            model.fit(images, labels, batch_size=2, callbacks=[schedule], verbose=0)
        assert seen == [0, 1, 2, 3, 4, 5]
        assert float(model.epsilon) == pytest.approx(0.4 * 5 / 8)

    def test_counts_epochs(self, model, images, labels):
        schedule = PerturbationSchedule([0.1, 0.2, 0.25].__getitem__, per="epoch")
        model.fit(images, labels, epochs=3, callbacks=[schedule], verbose=0)
        assert float(model.epsilon) == pytest.approx(0.25)

    def test_moves_the_attack(self, model, images, labels):
        schedule = PerturbationSchedule(lambda epoch: 0.0, per="epoch")
        before = float(sparse_loss()(labels, model(images)))
        loss = model.fit(images, labels, callbacks=[schedule], verbose=0)
        assert loss.history["loss"][0] == pytest.approx(before, rel=1e-5)

    def test_one_epsilon_per_attack(self, images, labels):
        model = AdversarialTrainingModel(small_net(), [FGSM(0.1), FGSM(0.2)])
        model.compile("sgd", sparse_loss())
        schedule = PerturbationSchedule(lambda epoch: [0.3, 0.4], per="epoch")
        model.fit(images, labels, callbacks=[schedule], verbose=0)
        np.testing.assert_allclose(model.epsilon, [0.3, 0.4])

    @pytest.mark.parametrize("value", [-0.1, [0.1, 0.2]])
    def test_rejects_what_the_schedule_returns(self, value, model, images, labels):
        schedule = PerturbationSchedule(lambda step: value)
        with pytest.raises(ValueError, match="returns epsilons >= 0 of shape"):
            model.fit(images, labels, callbacks=[schedule], verbose=0)

    def test_rejects_a_model_without_attack(self, images, labels):
        model = AdversarialTrainingModel(small_net())
        model.compile("sgd", sparse_loss())
        with pytest.raises(ValueError, match="adversarial training model with an att"):
            model.fit(
                images,
                labels,
                callbacks=[PerturbationSchedule(lambda step: 0.1)],
                verbose=0,
            )

    def test_rejects_arguments(self):
        with pytest.raises(TypeError, match="`schedule` to be a function"):
            PerturbationSchedule(0.3)
        with pytest.raises(ValueError, match="`per` to be one of"):
            PerturbationSchedule(lambda step: 0.1, per="batch")

    def test_kappa_needs_an_objective_that_has_one(self, model, images, labels):
        schedule = PerturbationSchedule(lambda step: 0.5, weight="kappa")
        with pytest.raises(ValueError, match=r"trains with `objectives\.IntervalB"):
            model.fit(images, labels, callbacks=[schedule], verbose=0)

    @pytest.mark.parametrize("value", [-0.1, 1.1, [0.5, 0.5]])
    def test_rejects_what_is_no_kappa(self, value, images, labels):
        model = AdversarialTrainingModel(
            small_net(), objective=IntervalBounds(epsilon=0.1)
        )
        model.compile("sgd", sparse_loss())
        schedule = PerturbationSchedule(lambda step: value, weight="kappa")
        with pytest.raises(ValueError, match="returns numbers from 0 to 1"):
            model.fit(images, labels, callbacks=[schedule], verbose=0)

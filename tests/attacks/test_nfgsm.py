import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, NFGSM, PGD, Transfer
from keras_advdef.callbacks import PerturbationSchedule, RobustAccuracy
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.objectives import TRADES
from keras_advdef.training import AdversarialTrainingModel
from tests.support.check_attack import distance, inside
from tests.support.nets import linear_net, small_net, sparse_loss

CONTRACT = [{"epsilon": 0.05}, {"epsilon": 0.05, "noise_scale": 1.5, "loss": "margin"}]
# Ten pixels of a linear net, whose gradient has the same signs everywhere.
_WEIGHTS = np.random.default_rng(0).normal(0, 1, (2, 10))


@pytest.fixture
def linear():
    return linear_net(_WEIGHTS, np.zeros(2), shape=(10, 1, 1))


@pytest.fixture
def middle():
    """Many images, none of whose pixels comes near the borders of the range."""
    pixels = np.random.default_rng(1).uniform(0.4, 0.6, (500, 10, 1, 1))
    return pixels.astype("float32")


class TestNFGSM:
    def test_is_noise_and_a_step_on_a_linear_net(self, linear, middle):
        labels = np.arange(500) % 2
        found = NFGSM(0.1)(linear, middle, labels, seed=0)
        sign = np.sign(_WEIGHTS[1] - _WEIGHTS[0])
        step = 0.1 * np.where(labels == 0, 1, -1)[:, None] * sign
        noise = (found - middle).numpy()[:, :, 0, 0] - step
        assert -0.2 <= noise.min() < -0.199
        assert 0.199 < noise.max() <= 0.2 + 1e-6
        # Of 5000 draws that are uniform in [-0.2, 0.2].
        np.testing.assert_allclose(noise.mean(), 0.0, atol=0.007)
        np.testing.assert_allclose(noise.std(), 0.4 / np.sqrt(12), rtol=0.03)
        assert np.abs(np.corrcoef(noise.T) - np.eye(10)).max() < 0.2

    def test_nothing_is_projected_onto_the_ball(self, linear, middle):
        found = NFGSM(0.1)(linear, middle, np.zeros(500, int), seed=0)
        norms = distance(found, middle, "linf")
        assert np.mean(norms > 0.2) > 0.9
        assert inside(found, middle, 0.3, "linf")

    def test_the_gradient_is_taken_at_the_clipped_noisy_image(self):
        """The model sees it once, within the range of pixels."""
        seen = []

        def model(images):
            seen.append(images)
            return tf.stack([images[:, 0, 0, 0], images[:, 1, 0, 0] ** 2], axis=1)

        images = np.full((200, 2, 1, 1), 0.9, "float32")
        found = NFGSM(0.1, step_size=0.04)(model, images, np.zeros(200, int), seed=0)
        (noisy, *_) = (np.asarray(each) for each in seen if len(each) == 200)
        assert noisy.max() == 1.0
        assert noisy.min() < 0.72
        step = np.array([-0.04, 0.04])[:, None, None]
        np.testing.assert_allclose(found, np.clip(noisy + step, 0, 1), atol=1e-6)

    def test_arguments_are_not_mixed_up_in_compiled_calls(self, net, images, labels):
        few = images[:4], labels[:4]
        options = {"seed": 0, "verbose": 0}
        made = [
            NFGSM(0.1, **changes).generate(net, *few, **options)
            for changes in ({}, {"noise_scale": 1.0})
        ]
        assert np.abs(made[0] - made[1]).max() > 0.05

    def test_without_noise_it_is_fgsm(self, net, images, labels):
        found = NFGSM(0.1, noise_scale=0.0)(net, images, labels, seed=0)
        np.testing.assert_array_equal(found, FGSM(0.1)(net, images, labels, seed=0))

    def test_generate_goes_as_far(self, linear, middle):
        attack = NFGSM(20, step_size=30, noise_scale=1.0, value_range=(0, 255))
        wide = keras.Sequential([keras.layers.Rescaling(1 / 255), linear])
        found = attack.generate(
            wide, 255 * middle, np.zeros(500, int), seed=0, verbose=0
        )
        norms = distance(found, 255 * middle, "linf")
        assert 49.0 < norms.max() <= 50.0 + 1e-3

    def test_noise_stays_within_a_mask(self, linear, middle):
        mask = np.arange(10).reshape(10, 1) < 4
        found = NFGSM(0.1)(linear, middle, np.zeros(500, int), mask=mask, seed=0)
        np.testing.assert_array_equal(found[:, 4:], middle[:, 4:])
        assert np.abs(found[:, :4] - middle[:, :4]).max() > 0.29

    def test_a_transferred_one_goes_as_far(self, linear, middle):
        labels = np.zeros(500, int)
        attack = NFGSM(0.1)
        direct = attack(linear, middle, labels, seed=0)
        found = Transfer(linear, attack)(linear, middle, labels, seed=0)
        np.testing.assert_array_equal(found, direct)

    def test_trains_under_a_schedule(self, tmp_path, digits):
        """Compiled by XLA in half precision; saved, and loaded again."""
        x, y = digits.x_train[:64], digits.y_train[:64]
        keras.config.set_dtype_policy("mixed_float16")
        try:
            net = small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        model = AdversarialTrainingModel(net, NFGSM(0.05), validation_attack=PGD(0.05))
        model.compile(keras.optimizers.Adam(0.01), sparse_loss(), jit_compile=True)
        schedule = PerturbationSchedule(
            lambda epoch: [0.01, 0.05][epoch > 1], per="epoch"
        )
        history = model.fit(x, y, epochs=4, callbacks=[schedule], verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        np.testing.assert_allclose(model.epsilon, 0.05)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert repr(loaded.attack) == repr(NFGSM(0.05))

    def test_the_step_follows_the_epsilon_of_the_call(self, linear, middle):
        labels = np.zeros(500, int)
        craft = tf.function(
            lambda epsilon: NFGSM(0.1)(linear, middle, labels, epsilon=epsilon, seed=0)
        )
        for epsilon in (0.02, 0.1):
            found = craft(tf.constant(epsilon))
            assert 2.8 * epsilon < distance(found, middle, "linf").max()
            assert inside(found, middle, 3.0 * epsilon, "linf")

    @pytest.mark.parametrize("transferred", [False, True])
    def test_says_nothing_about_robustness(self, transferred, net, images, labels):
        attack = NFGSM(0.1)
        if transferred:
            attack = Transfer(small_net(), attack)
        rule = "an attack whose results lie within epsilon. Received"
        with pytest.raises(ValueError, match=f"`attacks` to be {rule}"):
            evaluate_robustness(net, images, labels, epsilon=0.1, attacks=[attack])
        with pytest.raises(ValueError, match=f"`attack` to be {rule}"):
            RobustAccuracy(attack, (images, labels))
        with pytest.raises(ValueError, match=f"`validation_attack` to be {rule}"):
            AdversarialTrainingModel(net, validation_attack=attack)

    def test_the_start_is_its_own(self, net):
        with pytest.raises(TypeError, match="expects `random_start` to be left out"):
            NFGSM(0.1, random_start=False)
        with pytest.raises(ValueError, match="which `TRADES` sets"):
            AdversarialTrainingModel(net, NFGSM(0.1), TRADES())

    @pytest.mark.parametrize(
        "wrong", [{"noise_scale": -1.0}, {"norm": "l2"}, {"step_size": 0.0}]
    )
    def test_rejects(self, wrong):
        with pytest.raises(ValueError, match=f"`NFGSM` expects `{next(iter(wrong))}`"):
            NFGSM(0.1, **wrong)

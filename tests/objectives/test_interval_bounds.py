import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, logsumexp

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.callbacks import PerturbationSchedule
from keras_advdef.evaluation import certify_intervals
from keras_advdef.objectives import CrossEntropy, IntervalBounds
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net, sparse_loss

# The contract brings an attack, whose epsilon then counts.
CONTRACT = [{"kappa": 0.25}, {"box": 0.5}]
_SOFTMAX = keras.activations.softmax


@pytest.fixture
def linear():
    """A linear net with probabilities, and its weights."""
    keras.utils.set_random_seed(2)
    net = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    return net, *net.layers[-1].get_weights()


def _trained(net, objective, attack=None, **options):
    model = AdversarialTrainingModel(net, attack, objective, seed=0)
    is_softmax = getattr(net.layers[-1], "activation", None) is _SOFTMAX
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not is_softmax)
    model.compile(keras.optimizers.SGD(0.1), loss, **options)
    return model


def _expected(images, labels, weights, offset, *, epsilon, kappa):
    """The loss in closed form, where no pixel is near the ends of the range."""
    flat = images.reshape((len(images), -1)).astype(np.float64)
    logits = flat @ weights + offset
    apart = weights[:, labels].T[:, :, None] - weights
    margins = logits[np.arange(len(labels)), labels][:, None] - logits
    margins -= epsilon * np.abs(apart).sum(axis=1)
    clean = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return kappa * clean + (1 - kappa) * logsumexp(-margins, axis=1)


class TestIntervalBounds:
    @pytest.mark.parametrize("kappa", [0.0, 0.25, 1.0])
    def test_loss_of_a_linear_net(self, linear, kappa):
        net, weights, offset = linear
        draw = np.random.default_rng(0)
        images = draw.uniform(0.3, 0.7, (5, 2, 2, 1)).astype(np.float32)
        labels = np.array([0, 1, 2, 0, 1])
        objective = IntervalBounds(epsilon=0.2, kappa=kappa)
        model = _trained(net, objective)
        losses, clean, worst = objective(model, images, labels, images)
        expected = _expected(images, labels, weights, offset, epsilon=0.2, kappa=kappa)
        np.testing.assert_allclose(losses, expected, rtol=1e-4)
        np.testing.assert_allclose(clean, net(images), rtol=1e-5)
        certified = certify_intervals(net, images, labels, epsilon=0.2).certified
        np.testing.assert_array_equal(np.argmax(worst, axis=1) == labels, certified)

    def test_gradient_is_that_of_differences(self, images, labels):
        net = small_net()
        objective = IntervalBounds(epsilon=0.05, kappa=0.3)
        model = _trained(net, objective)

        def loss():
            return tf.reduce_sum(objective(model, images, labels, images)[0])

        with tf.GradientTape() as tape:
            value = loss()
        draw, step = np.random.default_rng(1), 1e-3
        weights = net.trainable_weights
        moves = [draw.normal(size=each.shape).astype(np.float32) for each in weights]
        promised = sum(
            float(tf.reduce_sum(slope * move))
            for slope, move in zip(tape.gradient(value, weights), moves, strict=True)
        )
        found = []
        for side in (step, -2 * step):
            for weight, move in zip(weights, moves, strict=True):
                weight.assign_add(side * move)
            found.append(float(loss()))
        assert (found[0] - found[1]) / (2 * step) == pytest.approx(promised, rel=0.02)

    def test_all_kappa_is_plain_training(self, images, labels):
        found = []
        for objective in (IntervalBounds(epsilon=0.1, kappa=1.0), CrossEntropy()):
            keras.utils.set_random_seed(1)
            net = small_net()
            model = _trained(net, objective)
            model.fit(images, labels, verbose=0, shuffle=False)
            found.append(net.get_weights())
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    def test_small_boxes_lie_around_adversarial_images(self, linear):
        net, weights, offset = linear
        draw = np.random.default_rng(0)
        images = draw.uniform(0.3, 0.7, (4, 2, 2, 1)).astype(np.float32)
        labels = np.array([0, 1, 2, 0])
        objective = IntervalBounds(kappa=0.0, box=0.25)
        model = _trained(net, objective, FGSM(0.2))
        adversarial = images + 0.2
        losses, _, _ = objective(model, images, labels, adversarial)
        expected = _expected(
            # 0.75 of epsilon away, so that boxes stay in the ball.
            images + 0.15,
            labels,
            weights,
            offset,
            epsilon=0.05,
            kappa=0.0,
        )
        np.testing.assert_allclose(losses, expected, rtol=1e-4)

    @pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
    def test_trains_for_certificates(self, digits, dtype):
        keras.utils.set_random_seed(1)
        keras.config.set_dtype_policy(dtype)
        try:
            net = small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        model = AdversarialTrainingModel(net, objective=IntervalBounds(epsilon=0.03))
        model.compile(keras.optimizers.Adam(5e-3), sparse_loss())

        def grown(step):
            return min(1.0, max(0.0, (step - 60) / 120))

        schedules = [
            PerturbationSchedule(lambda step: 0.03 * grown(step)),
            PerturbationSchedule(lambda step: 1.0 - 0.5 * grown(step), weight="kappa"),
        ]
        x, y = digits.x_train, digits.y_train
        history = model.fit(
            x, y, batch_size=40, epochs=20, callbacks=schedules, verbose=0
        ).history
        # A third is what a constant answer gets.
        assert history["adversarial_accuracy"][-1] > 0.6
        assert history["clean_accuracy"][-1] > 0.9
        if dtype == "float32":
            found = certify_intervals(net, digits.x_test, digits.y_test, epsilon=0.03)
            assert found.certified.mean() > 0.6

    def test_schedules_move_saved_weights(self, images, labels, tmp_path):
        model = _trained(small_net(), IntervalBounds(epsilon=0.2))
        schedules = [
            PerturbationSchedule(lambda step: 0.1),
            PerturbationSchedule(lambda step: 0.75, weight="kappa"),
        ]
        model.fit(images, labels, callbacks=schedules, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert float(loaded.epsilon) == pytest.approx(0.1)
        assert float(loaded.kappa) == 0.75
        assert loaded.objective.get_config() == model.objective.get_config()

    def test_compiled_by_xla(self, images, labels):
        found = []
        for jit_compile in (False, True):
            keras.utils.set_random_seed(1)
            model = _trained(
                small_net(), IntervalBounds(epsilon=0.1), jit_compile=jit_compile
            )
            found.append(model.fit(images, labels, epochs=2, verbose=0).history)
        assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-4)

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"epsilon": 0.0}, "`epsilon` to be"),
            ({"kappa": -0.1}, "`kappa` to be"),
            ({"kappa": 1.1}, "`kappa` to be"),
            ({"box": 0.0}, "`box` to be"),
            ({"box": 0.5, "epsilon": 0.1}, "`epsilon` to be `None` where `box`"),
        ],
    )
    def test_bad_input(self, changes, text):
        with pytest.raises(ValueError, match=f"`IntervalBounds` expects {text}"):
            IntervalBounds(**changes)

    def test_needs_one_epsilon(self):
        with pytest.raises(ValueError, match="`attack` to be an attack with an epsi"):
            AdversarialTrainingModel(small_net(), objective=IntervalBounds())
        with pytest.raises(ValueError, match="`attack` to be `None`, as `IntervalB"):
            AdversarialTrainingModel(
                small_net(), PGD(0.1), objective=IntervalBounds(epsilon=0.1)
            )

    def test_unknown_layers_are_named(self, images, labels):
        class Own(keras.layers.Layer):
            def call(self, x):
                return x

        net = keras.Sequential(
            [keras.Input(images.shape[1:]), Own(name="own"), *small_net().layers]
        )
        model = _trained(net, IntervalBounds(epsilon=0.1))
        with pytest.raises(ValueError, match=r"`own` \(Own\) is none"):
            model.fit(images, labels, verbose=0)

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import APGD, FGSM, PGD, _compiled_attack
from keras_advdef.attacks.losses import (
    AttackLoss,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers import RandomNoise
from tests.support.check_attack import inside
from tests.support.nets import linear_net, small_net

# At x = [.6, .2] the logits of the identity are .4 apart; with w = [1, -1] the boundary
# is .4 / ||w||_1 = .2 away in linf, .4 / sqrt(2) in l2, .4 / ||w||_inf = .4 in l1.
POINT = np.array([0.6, 0.2], "float32").reshape(1, 2, 1, 1)
NEAREST = {"linf": 0.2, "l2": 0.28284271, "l1": 0.4}


class TestGradientAttack:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_succeeds_exactly_beyond_the_boundary_of_a_linear_model(self, norm):
        net = linear_net(np.eye(2), np.zeros(2))
        attack = PGD(norm=norm, steps=60, loss="margin", random_start=False)
        for factor, broken in ((0.995, False), (1.005, True)):
            result = attack(net, POINT, [0], epsilon=factor * NEAREST[norm], seed=0)
            assert (np.argmax(net(result)) != 0) == broken

    def test_one_step_reaches_the_optimum_of_a_binary_model(self):
        # Loss zeta(eps * ||w||_1 - y m) with w = [1, -2], x = [.5, .25], eps = .1:
        # clean log(2) = .69314718, worst log(1 + e^.3) = .85435524.
        net = linear_net([[0.0, 0.0], [1.0, -2.0]], np.zeros(2))
        x = np.array([0.5, 0.25], "float32").reshape(1, 2, 1, 1)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        assert float(loss(np.array([1]), net(x))) == pytest.approx(0.69314718, abs=1e-6)
        worst = FGSM(0.1)(net, x, [1])
        assert float(loss(np.array([1]), net(worst))) == pytest.approx(
            0.85435524, abs=1e-6
        )

    def test_steps_never_lower_the_loss_that_is_returned(self, net, images, labels):
        values = []
        for steps in (1, 3, 8):
            attack = PGD(0.1, steps=steps, step_size=0.02, random_start=False)
            logits = net(attack(net, images, labels, seed=0))
            values.append(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )
        assert np.all(values[1] >= values[0] - 1e-6)
        assert np.all(values[2] >= values[1] - 1e-6)

    def test_attacked_loss_is_never_below_the_clean_one(self, net, images, labels):
        clean = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, net(images))
        attack = PGD(0.3, steps=2, step_size=0.3, random_start=False)
        logits = net(attack(net, images, labels))
        reached = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        assert np.all(reached >= clean - 1e-6)

    def test_margin_survives_logits_that_blind_cross_entropy(self, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        sharp = keras.Sequential(
            [keras.Input((8, 8, 1)), trained_net, keras.layers.Rescaling(1e4)]
        )
        correct = np.argmax(trained_net(x), axis=-1) == y
        left = {}
        for loss in ("cross_entropy", "margin"):
            attack = PGD(0.15, steps=10, loss=loss, random_start=False)
            found = attack(sharp, x, y, seed=0)
            left[loss] = np.mean((np.argmax(sharp(found), axis=-1) == y) & correct)
        plain = PGD(0.15, steps=10, loss="margin", random_start=False)
        found = plain(trained_net, x, y, seed=0)
        expected = np.mean((np.argmax(trained_net(found), axis=-1) == y) & correct)
        # Float32 softmax of such logits is exactly 0 or 1: no gradient, no attack.
        assert left["cross_entropy"] > left["margin"] + 0.2
        assert left["margin"] == pytest.approx(expected, abs=0.04)

    def test_restarts_never_help_the_defender(self, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]
        left = []
        for restarts in (1, 4):
            attack = PGD(0.12, steps=4, restarts=restarts)
            adversarial = attack(trained_net, x, y, seed=0)
            left.append(np.argmax(trained_net(adversarial), axis=-1) == y)
        assert np.all(left[1] <= left[0])

    def test_breaks_a_trained_net(self, trained_net, digits):
        x, y = digits.x_test, digits.y_test
        clean = np.mean(np.argmax(trained_net(x), axis=-1) == y)
        attack = PGD(0.3, steps=20)
        adversarial = attack.generate(trained_net, x, y, seed=0, verbose=0)
        left = np.mean(attack.predict(trained_net, adversarial) == y)
        assert clean > 0.9
        assert left < 0.2

    def test_stop_early_breaks_the_same_images(self, trained_net, digits):
        x, y = digits.x_test, digits.y_test
        attack = PGD(0.1, steps=25, restarts=4)
        broken = []
        for early in (False, True):
            adversarial = attack.generate(
                trained_net, x, y, seed=0, batch_size=64, verbose=0, stop_early=early
            )
            assert inside(adversarial, x, 0.1, "linf")
            broken.append(attack.predict(trained_net, adversarial) != y)
        assert 0.1 < np.mean(broken[0]) < 0.9
        # Different random starts decide a few images at the boundary.
        assert np.mean(broken[0] == broken[1]) >= 0.97

    @pytest.mark.parametrize("eager", [True, False])
    def test_success_counts_before_loss(self, eager):
        # Class 1 takes over for x > .5; the loss, a user's own, falls with x. The
        # strongest point is a broken one, whatever its loss.
        class Backwards(AttackLoss):
            def __call__(self, logits_fn, images, labels, reference=None):
                return -tf.reduce_sum(images, axis=(1, 2, 3))

        net = linear_net([[0.0], [1.0]], np.array([0.5, 0.0]), shape=(1, 1, 1))
        x = np.full((64, 1, 1, 1), 0.45, "float32")
        attack = PGD(0.2, steps=3, step_size=0.05, loss=Backwards())
        call = attack if eager else tf.function(attack, autograph=False)
        result = np.ravel(call(net, x, np.zeros(64, int), seed=0))
        # Uniform starts in [.25, .65] are above .5 for 3 in 8 images; those must stay.
        assert 10 < np.sum(result > 0.5) < 40

    def test_eot_sees_through_noise(self, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        noisy = keras.Sequential(
            [keras.Input((8, 8, 1)), RandomNoise(0.5), trained_net]
        )
        loss = []
        for samples in (1, 16):
            attack = PGD(0.1, steps=8, eot_samples=samples, return_best=False)
            adversarial = attack(noisy, x, y, seed=0)
            logits = [noisy(adversarial) for _ in range(40)]
            values = [
                tf.nn.sparse_softmax_cross_entropy_with_logits(y, each)
                for each in logits
            ]
            loss.append(np.mean(values))
        assert loss[1] > loss[0]

    def test_steps_see_different_noise(self, images, labels):
        seen = []

        class Watching(AttackLoss):
            def __call__(self, logits_fn, images, labels, reference=None):
                seen.append(logits_fn(images).numpy())
                return tf.reduce_sum(images, axis=(1, 2, 3))

        net = small_net(front=[RandomNoise(0.1)])
        attack = PGD(0.1, steps=3, step_size=1e-9, random_start=False, loss=Watching())
        attack(net, images, labels, seed=0)
        assert len(seen) == 4
        assert len({each.tobytes() for each in seen}) == 4

    def test_targeted_reaches_the_target(self, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        target = (y + 1) % 3
        for loss in ("cross_entropy", "margin"):
            attack = PGD(0.4, steps=20, targeted=True, loss=loss)
            result = attack.generate(
                trained_net, x, y, target_labels=target, seed=0, verbose=0
            )
            assert np.mean(attack.predict(trained_net, result) == target) > 0.8

    def test_probabilities_are_attacked_as_such(self):
        # Logits [2, -2, 0.5] x for x = [.5, .5], so p = [.574, .078, .348]. Away from
        # class 0 the first pixel must fall, since 2 (p0 - 1) - 2 p1 < 0; away from
        # [.5, .5, 0] it must rise, since 2 (p0 - .5) - 2 (p1 - .5) > 0.
        net = linear_net([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0]], np.zeros(3))
        x = np.full((1, 2, 1, 1), 0.5, "float32")
        rows = np.array([[0.5, 0.5, 0.0]], "float32")
        risen, fallen = np.array([0.6, 0.6]), np.array([0.4, 0.6])
        attack = FGSM(0.1)
        by_hand = tf.function(lambda labels: attack(net, x, labels), autograph=False)
        for found in (
            attack(net, x, rows),
            by_hand(tf.constant(rows)),
            attack.generate(net, x, rows, verbose=0),
            PGD(0.1, steps=3).generate(net, x, rows, verbose=0, stop_early=True),
        ):
            np.testing.assert_allclose(np.ravel(found), risen, atol=1e-6)
        # The margin is of one class, the likeliest.
        for loss, labels in (("margin", rows), ("cross_entropy", [0])):
            found = FGSM(0.1, loss=loss)(net, x, labels)
            np.testing.assert_allclose(np.ravel(found), fallen, atol=1e-6)

    def test_momentum_keeps_the_last_directions(self):
        # d/dx of the loss changes sign at once past the kink of |x - .5|; with
        # momentum 1 the accumulated direction carries on.
        def logits(images):
            flat = tf.abs(images[:, 0, 0] - 0.5)
            return tf.concat([tf.zeros_like(flat), -flat], axis=1)

        x = np.full((1, 1, 1, 1), 0.34, "float32")
        arguments = {
            "epsilon": 0.4,
            "steps": 4,
            "step_size": 0.1,
            "random_start": False,
            "return_best": False,
        }
        plain = PGD(**arguments)(logits, x, [0]).numpy().item()
        carried = PGD(**arguments, momentum=1.0)(logits, x, [0]).numpy().item()
        # Plain: .44 .54 .44 .54. Momentum: velocity 1, 2, then 1 and 0: .44 .54 .64 .64
        assert plain == pytest.approx(0.54, abs=1e-6)
        assert carried == pytest.approx(0.64, abs=1e-6)

    def test_zero_gradients_give_no_nan(self, images, labels):
        net = small_net()
        net.layers[-1].set_weights([np.zeros((8, 3)), np.zeros(3)])
        for norm in ("linf", "l2", "l1"):
            result = PGD(0.1, norm=norm, steps=2, momentum=1.0)(net, images, labels)
            assert np.isfinite(result).all()

    def test_an_image_does_not_depend_on_the_others(self, net, images, labels):
        attack = PGD(0.1, steps=5, random_start=False)
        whole = attack(net, images, labels)
        alone = attack(net, images[2:3], labels[2:3])
        np.testing.assert_allclose(whole[2:3], alone, atol=1e-6)

    def test_second_order_free(self, net, images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(net(FGSM(0.1)(net, images, labels)))
        gradient = tape.gradient(loss, net.trainable_variables)
        direct = FGSM(0.1)(net, images, labels)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(net(direct))
        for one, other in zip(
            gradient, tape.gradient(loss, net.trainable_variables), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=1e-5)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"steps": 0}, "steps"),
            ({"step_size": 0.0}, "step_size"),
            ({"restarts": 0}, "restarts"),
            ({"momentum": -1.0}, "momentum"),
            ({"eot_samples": 0}, "eot_samples"),
            ({"random_start": "corner"}, "random_start"),
            ({"random_start": 1}, "random_start"),
            ({"loss": "hinge"}, "loss"),
            ({"loss": "kl", "targeted": True}, "loss"),
        ],
    )
    def test_rejects(self, arguments, name):
        with pytest.raises(ValueError, match=f"`PGD` expects `{name}`"):
            PGD(0.1, **arguments)

    def test_custom_loss_survives_serialisation(self):
        attack = PGD(0.1, loss="margin")
        for loss in (attack._loss, "kl"):
            copy = keras.saving.deserialize_keras_object(
                keras.saving.serialize_keras_object(PGD(0.1, loss=loss))
            )
            assert type(copy._loss) is type(PGD(0.1, loss=loss)._loss)


def test_keep_best_updates_the_best_only():
    state = {
        "iterate": tf.ones((1, 1)),
        "best": tf.zeros((1, 1)),
        "best_loss": tf.zeros(1),
        "broken": tf.constant([False]),
        "other": 3,
    }
    new = FGSM(0.1).keep_best(state, tf.constant([2.0]), tf.constant([False]))
    assert (new["best"].numpy().item(), new["best_loss"].numpy().item()) == (1.0, 2.0)
    assert (new["other"], state["best"].numpy().item()) == (3, 0.0)


@keras.saving.register_keras_serializable("tests")
class _NoisyWeights(RandomNoise):
    """A linear map whose weights are drawn for each image."""

    def __init__(self, weights, deviation):
        super().__init__(deviation)
        self.weight = weights

    def call(self, inputs):
        rows = inputs[:, :, None] * self.weight
        # Noise on the weights is noise on ones, times the inputs.
        noise = super().call(tf.ones_like(rows)) - 1.0
        return tf.reduce_sum(rows + noise * inputs[:, :, None], axis=1)


class TestEarlySamples:
    # 20 steps of 2 draws and 3 of 6, then 6 for the last point.
    attacks = pytest.mark.parametrize(
        "attack",
        [
            cls(1e-3, steps=23, eot_samples=6, early_eot_samples=2)
            for cls in (PGD, APGD)
        ],
        ids=str,
    )

    @attacks
    def test_few_until_the_last_tenth(self, attack):
        assert attack.passes(2) == (20 * 2 + 3 * 6 + 6, 20 * 2 + 3 * 6)
        assert [attack.draws_at(each) for each in (0, 19, 20, 22)] == [2, 2, 6, 6]
        # A tenth of 70 in floats is a little more than 7.
        assert PGD(steps=70, eot_samples=6, early_eot_samples=2).early_steps == 63
        one_step = PGD(steps=1, eot_samples=6, early_eot_samples=2)
        assert one_step.draws_at(0) == 6

    @attacks
    @pytest.mark.parametrize("stop_early", [False, True])
    def test_generate_draws_as_often(self, attack, stop_early, monkeypatch):
        net = keras.Sequential([RandomNoise(1e-6), linear_net(np.eye(2), np.zeros(2))])
        seen, mean = [], _compiled_attack.mean_over_draws

        def counted(draw, count):
            seen.append(count)
            return mean(draw, count)

        monkeypatch.setattr(_compiled_attack, "mean_over_draws", counted)
        attack.generate(net, POINT, [0], seed=0, verbose=0, stop_early=stop_early)
        # With `stop_early` the current point is also compared after 10 and 20 steps.
        ends = [2, 6] if stop_early else []
        assert sorted(seen) == sorted([2] * 20 + [6] * 4 + ends)

    def test_rows_at_different_steps_keep_their_draws(self, monkeypatch):
        net = keras.Sequential([RandomNoise(1e-6), linear_net(np.eye(2), np.zeros(2))])
        attack = PGD(1e-3, steps=20, eot_samples=5, early_eot_samples=1)
        seen, mean = [], _compiled_attack.mean_over_draws

        def counted(draw, count):
            seen.append(count)
            return mean(draw, count)

        monkeypatch.setattr(_compiled_attack, "mean_over_draws", counted)
        images = np.repeat(POINT, 3, axis=0)
        images[1] = images[1, ::-1]
        # The second image is wrong, leaves after a segment, and the third moves up.
        attack.generate(
            net, images, [0] * 3, seed=0, batch_size=2, verbose=0, stop_early=True
        )
        assert seen.count(5) == 2 * (2 + 1)

    def test_the_best_of_few_draws_is_forgotten(self):
        attack = PGD(0.1, steps=10, eot_samples=6, early_eot_samples=2)
        state = {
            "best_loss": tf.constant([3.0, 3.0]),
            "broken": tf.constant([True] * 2),
        }
        new = attack.renewed(state, tf.constant([True, False]))
        assert new["best_loss"].numpy().tolist() == [np.finfo(np.float32).min, 3.0]
        assert new["broken"].numpy().tolist() == [False, True]

    @pytest.mark.parametrize("cls", [PGD, APGD])
    def test_mean_over_steps_is_as_strong_as_many_draws(self, cls):
        # Noise on the gradients of a linear net turns many signs of four draws.
        weights = np.zeros((64, 2), "float32")
        weights[:, 1] = np.linspace(0.05, 1.0, 64)
        parts = keras.layers.Flatten(), _NoisyWeights(weights, deviation=1.0)
        noisy = keras.Sequential([keras.Input((8, 8, 1)), *parts])
        images = np.full((4, 8, 8, 1), 0.5, "float32")
        both = cls(0.1, steps=40, loss="margin", eot_samples=20, early_eot_samples=4)
        many = both.replace(early_eot_samples=None)
        few = both.replace(eot_samples=4, early_eot_samples=None)

        def gain(attack):
            found = attack.generate(noisy, images, [0] * 4, seed=0, verbose=0)
            return np.mean((found - images).reshape(4, 64) @ weights[:, 1])

        assert gain(both) >= gain(many) > 1.1 * gain(few)

    def test_apgd_keeps_the_length_of_steps_of_few_draws(self):
        flat = LogitsFunction(linear_net(np.zeros((2, 2)), np.zeros(2)))
        epsilon, key, sizes = tf.constant(0.1), make_key(0), []
        for early in (1, None):
            attack = APGD(0.1, steps=20, eot_samples=2, early_eot_samples=early)
            images, labels, run = tf.constant(POINT), tf.constant([0]), tf.constant(0)
            state = attack.begin(flat, images, labels, epsilon, key, run)
            state = attack.repeat(flat, state, epsilon, key, 18)
            sizes.append(float(state["step_size"][0]))
        # At each checkpoint the loss has not grown.
        assert sizes[0] == pytest.approx(0.1)
        assert sizes[1] < 0.05

    def test_more_than_the_others_are_refused(self):
        with pytest.raises(ValueError, match=r"an integer in \[1, 3\]"):
            PGD(eot_samples=3, early_eot_samples=4)

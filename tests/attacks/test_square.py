import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.square import Square
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from tests.support.check_attack import inside
from tests.support.nets import linear_net

CONTRACT = [
    {"epsilon": 0.1, "queries": 20},
    {"epsilon": 1.0, "norm": "l2", "queries": 20},
]

LOWEST = np.finfo("float32").min


def halfspace(size, seed=3):
    """A linear model of two classes, grey images, and their exact distances."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 1, (size, size))
    # Class 0 leads by `lead` on a grey image.
    lead = 0.02 * size * size
    bias = [lead - 0.5 * weights.sum(), 0.0]
    net = linear_net([weights.ravel(), 0 * weights.ravel()], bias, (size, size, 1))
    exact = {"linf": lead / np.abs(weights).sum(), "l2": lead / np.linalg.norm(weights)}
    return net, np.full((4, size, size, 1), 0.5, "float32"), exact


def correct(net, images, labels):
    return np.argmax(net(images), axis=-1) == labels


def crafted(attack, net, images, labels):
    """What one call gives inside a graph, where nothing leaves on its way."""
    return tf.function(lambda: attack(net, images, labels, seed=0))()


class Counted:
    """A model that counts its passes in eager mode."""

    def __init__(self, net):
        self.net = net
        self.passes = 0

    def __call__(self, images):
        self.passes += 1
        return self.net(images)


class TestSquare:
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    @pytest.mark.parametrize("size", [2, 8])
    def test_never_succeeds_before_the_exact_distance(self, norm, size):
        net, images, exact = halfspace(size)
        attack = Square(norm=norm, queries=150)
        # Four pixels are searched out; 64 of white noise are hard for squares.
        far = 3.0 if size == 8 else {"linf": 1.01, "l2": 2.0}[norm]
        for factor, is_broken in ((0.995, False), (far, True)):
            found = attack.generate(
                net, images, [0] * 4, epsilon=factor * exact[norm], seed=0, verbose=0
            )
            assert inside(found, images, factor * exact[norm], norm)
            assert np.all(correct(net, found, 0) != is_broken)

    @pytest.mark.parametrize(
        ("norm", "epsilon", "most"), [("linf", 0.15, 0.3), ("l2", 1.0, 0.3)]
    )
    def test_breaks_a_trained_net(self, norm, epsilon, most, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        assert correct(trained_net, x, y).mean() > 0.9
        attack = Square(epsilon, norm=norm, queries=300)
        found = attack.generate(trained_net, x, y, seed=0, verbose=0, batch_size=30)
        assert inside(found, x, epsilon, norm)
        assert correct(trained_net, found, y).mean() < most

    def test_more_queries_never_help_the_defender(self, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]
        left = []
        for queries in (55, 80, 200):
            found = crafted(Square(0.12, queries=queries), trained_net, x, y)
            left.append(correct(trained_net, found, y))
        assert np.all(left[1] <= left[0])
        assert np.all(left[2] <= left[1])
        assert left[2].sum() < left[0].sum()

    def test_restarts_never_help_the_defender(self, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]
        left = []
        for restarts in (1, 3):
            attack = Square(0.1, queries=12, restarts=restarts)
            left.append(correct(trained_net, crafted(attack, trained_net, x, y), y))
        assert np.all(left[1] <= left[0])
        assert left[1].sum() < left[0].sum()

    def test_reaches_targets(self, trained_net, digits):
        x = digits.x_test[:30]
        targets = (digits.y_test[:30] + 1) % 3
        attack = Square(0.3, queries=200, targeted=True)
        found = attack.generate(
            trained_net, x, target_labels=targets, seed=0, verbose=0
        )
        assert correct(trained_net, found, targets).mean() > 0.6
        assert correct(trained_net, x, targets).mean() < 0.1

    def test_needs_a_pass_for_a_query_for_the_start_and_for_the_clean_images(self):
        net, images, _ = halfspace(4)
        model = Counted(net)
        Square(1e-3, queries=7)(model, images, [0] * 4, seed=0)
        assert model.passes == 9

    def test_stops_when_all_images_are_broken(self, images):
        model = Counted(lambda x: tf.tile([[0.0, 2.0]], [len(x), 1]))
        Square(0.1, queries=10**6)(model, images, [0] * 6, seed=0)
        assert model.passes == 2

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_loops_within_loops_compile(self, norm, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]
        epsilon = {"linf": 0.15, "l2": 1.0}[norm]
        attack = Square(epsilon, norm=norm, queries=120)

        def run():
            return attack(trained_net, x, y, seed=0)

        plain = tf.function(run)()
        fused = tf.function(run, jit_compile=True)()
        # Rounding may decide between two points that are equally good.
        equal = np.all(np.abs(plain - fused) < 1e-5, axis=(1, 2, 3))
        assert equal.mean() >= 0.9

    def test_broken_images_leave_generate(self, images):
        def model(x):
            return tf.tile([[0.0, 2.0]], [tf.shape(x)[0], 1])

        # A million queries of each would take hours.
        attack = Square(0.1, queries=10**6)
        found = attack.generate(model, images, [0] * 6, batch_size=2, verbose=0)
        assert found.shape == images.shape

    def test_does_not_depend_on_other_images(self, trained_net, digits):
        x, y = digits.x_test[:6], digits.y_test[:6]
        attack = Square(0.1, queries=30)
        one = attack(trained_net, x, y, seed=0)
        others = x.copy()
        others[1:] = digits.x_test[10:15]
        y = np.concatenate([y[:1], digits.y_test[10:15]])
        two = attack(trained_net, others, y, seed=0)
        np.testing.assert_allclose(one[0], two[0], atol=1e-6)

    @pytest.mark.parametrize("labels", [[0] * 3, [1] * 3])
    def test_survives_a_model_without_any_slope(self, labels):
        def model(x):
            return tf.zeros((tf.shape(x)[0], 2))

        x = np.stack([np.zeros((4, 4, 1)), np.ones((4, 4, 1)), np.eye(4)[..., None]])
        for norm in ("linf", "l2"):
            attack = Square(0.2, norm=norm, queries=20)
            found = attack(model, x.astype("float32"), labels, seed=0)
            assert inside(found, x, 0.2, norm)

    @pytest.mark.parametrize(("argument", "value"), [("queries", 0), ("norm", "l1")])
    def test_rejects(self, argument, value):
        with pytest.raises(ValueError, match=f"`Square` expects `{argument}` to be"):
            Square(0.1, **{argument: value})

    def test_names_itself_after_its_queries(self):
        assert str(Square(0.3)) == "Square-5000"


class TestState:
    """One move, seen from inside."""

    @pytest.fixture
    def parts(self, net, images, labels):
        attack = Square(0.1, queries=100)
        logits_fn = LogitsFunction(net)
        labels = tf.argmax(net(images), axis=-1)
        state = attack.start(
            logits_fn, tf.constant(images), labels, 1e-3, make_key(0), tf.constant(0)
        )
        return attack, logits_fn, state

    def step(self, attack, logits_fn, state, taken=0.0):
        taken = tf.constant(taken, tf.float32)
        return attack.step(logits_fn, state, 1e-3, make_key(1), taken)

    def test_loss_is_the_margin_of_the_best_point(self, parts, net):
        attack, logits_fn, state = parts
        for _ in range(2):
            logits = np.sort(net(state["best"]), axis=-1)
            expected = logits[:, -2] - logits[:, -1]
            np.testing.assert_allclose(state["best_loss"], expected, atol=1e-6)
            state = self.step(attack, logits_fn, state)

    def test_only_a_rise_is_kept(self, parts):
        attack, logits_fn, state = parts
        low = tf.constant([LOWEST, np.inf] * 3, tf.float32)
        state = {**state, "best": state["images"], "loss": low}
        moved = self.step(attack, logits_fn, state)
        changed = np.any(moved["best"] != state["best"], axis=(1, 2, 3))
        assert changed.tolist() == [True, False] * 3
        np.testing.assert_array_equal(moved["loss"][1::2], low[1::2])
        assert np.all(moved["loss"][::2] > LOWEST)

    def test_broken_images_stand_still(self, parts):
        attack, logits_fn, state = parts
        broken = tf.constant([True, False] * 3)
        low = tf.fill([6], tf.float32.min)
        state = {**state, "best": state["images"], "broken": broken, "loss": low}
        moved = self.step(attack, logits_fn, state)
        changed = np.any(moved["best"] != state["best"], axis=(1, 2, 3))
        assert changed.tolist() == [False, True] * 3

    def test_a_success_that_is_taken_back_goes_on_from_its_loss(self, parts):
        # `run_slots` then sets "broken" and "best_loss" back; a worse point must not
        # be taken for better.
        attack, logits_fn, state = parts
        state = {**state, "best_loss": tf.fill([6], tf.float32.min)}
        state = {**state, "loss": tf.fill([6], np.float32(np.inf))}
        moved = self.step(attack, logits_fn, state)
        np.testing.assert_array_equal(moved["best"], state["best"])

    def test_rows_count_for_themselves(self, parts):
        attack, logits_fn, state = parts
        state = {**state, "loss": tf.fill([6], tf.float32.min)}
        taken = [0.0, 0.0, 0.0, 5000.0, 5000.0, 5000.0]
        moved = self.step(attack, logits_fn, {**state, "best": state["images"]}, taken)
        changed = np.sum(moved["best"] != state["images"], axis=(1, 2, 3))
        # Sides 7 and 1 of 8.
        assert changed.tolist() == [49] * 3 + [1] * 3

    def test_rows_out_of_queries_stand_still(self, parts):
        attack, logits_fn, state = parts
        step = tf.constant([0.0, 40.0, 99.0, 100.0, 150.0, 0.0])
        state = {**state, "loss": tf.fill([6], tf.float32.min), "step": step}
        moved = attack.advance(logits_fn, state, 1e-3, make_key(1))
        changed = np.any(moved["best"] != state["best"], axis=(1, 2, 3))
        assert changed.tolist() == [True, True, True, False, False, True]
        np.testing.assert_array_equal(moved["step"], step + 50)


class TestPrecision:
    def test_bfloat16_finds_images_that_are_wrong_in_float32(self, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        left = {}
        for precision in ("float32", "bfloat16"):
            attack = Square(0.1, queries=150, precision=precision)
            found = attack.generate(trained_net, x, y, seed=0, verbose=0)
            left[precision] = correct(trained_net, found, y).mean()
        assert left["bfloat16"] <= left["float32"] + 0.1

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_success_in_bfloat16_is_climbed_on(self, precision, trained_net, digits):
        # It may be none in float32, and in a graph nobody looks before the end.
        x, y = tf.constant(digits.x_test[:20]), tf.constant(digits.y_test[:20])
        attack = Square(0.2, queries=60, precision=precision)
        logits_fn = attack.logits_function(trained_net)
        state = attack.init_state(logits_fn, x, y, 0.2, make_key(0), tf.constant(0))
        early = attack.repeat(logits_fn, state, 0.2, make_key(0), 5)
        late = attack.repeat(logits_fn, early, 0.2, make_key(1), 40)
        rise = (late["loss"] - early["loss"])[early["broken"]].numpy()
        assert rise.size
        assert rise.min() >= 0
        assert (rise.max() > 0) == (precision == "bfloat16")


def test_a_random_model_is_searched_with_fresh_draws(trained_net, digits):
    from keras_advdef.layers import RandomNoise

    noisy = keras.Sequential([keras.Input((8, 8, 1)), RandomNoise(0.02), trained_net])
    x, y = digits.x_test[:20], digits.y_test[:20]
    attack = Square(0.2, queries=120)
    before = noisy.layers[0].random_state.numpy()
    found = attack.generate(noisy, x, y, seed=0, verbose=0)
    np.testing.assert_array_equal(noisy.layers[0].random_state, before)
    assert correct(noisy, found, y).mean() < 0.5

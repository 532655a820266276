import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks._walk import Walk, annealed, soft_margin, widest
from tests.support.nets import linear_net


class Ascent(Walk):
    """Moves the second pixel up by a tenth at each step."""

    def __init__(self, epsilon=None, *, steps=4, **kwargs):
        super().__init__(epsilon, steps=steps, norm="l2", **kwargs)

    def objective(self, logits, labels):
        return soft_margin(logits, labels, targeted=self.targeted)

    def move(self, state, look, taken, key):
        change = tf.constant([0.0, 0.1], shape=(1, 2, 1, 1))
        return {**state, "point": state["point"] + change}


_IMAGES = np.array([[0.35, 0.2], [0.9, 0.1]], "float32").reshape(2, 2, 1, 1)


class TestWalk:
    def test_returns_the_nearest_success(self):
        net = linear_net(np.eye(2), np.zeros(2))
        found = Ascent().search(net, _IMAGES, [0, 0], seed=0, verbose=0)
        # Looks at changes of 0, .1, .2 and .3: the third of the first image crosses.
        assert found.success.tolist() == [True, False]
        np.testing.assert_allclose(found.norms, [0.2, np.inf], atol=1e-6)
        # The last step leads nowhere that is looked at.
        nothing = Ascent(steps=2).search(net, _IMAGES, [0, 0], seed=0, verbose=0)
        assert not nothing.success.any()

    def test_a_success_survives_rounding(self):
        # Equal logits are no success, and neither is a lead of a millionth.
        for lead, succeeds in ((0.0, False), (1e-7, False), (1e-3, True)):
            net = linear_net(np.eye(2), np.array([0.0, 0.25 - 0.1 + lead]))
            attack = Ascent(steps=2)
            image = np.array([0.45, 0.2], "float32").reshape(1, 2, 1, 1)
            logits_fn = attack.logits_function(net)
            key = tf.constant([0, 0], tf.int64)
            found = attack.look_for(
                logits_fn, tf.constant(image), tf.constant([0]), np.inf, key
            )
            assert bool(tf.reduce_any(found != image)) == succeeds

    def test_costs_a_pass_each_step(self):
        assert Ascent(steps=3, eot_samples=2).passes(10) == (6 + 4, 6)
        assert Ascent(steps=3, precision="bfloat16").passes(10) == (6 + 2, 3)

    def test_is_named_with_its_steps(self):
        assert str(Ascent(steps=7)) == "Ascent-7"

    def test_needs_a_step(self):
        with pytest.raises(ValueError, match="`Ascent` expects `steps`"):
            Ascent(steps=0)

    @pytest.mark.parametrize("name", ["objective", "move"])
    def test_base_says_what_to_write(self, name):
        arguments = {"objective": 2, "move": 4}
        with pytest.raises(NotImplementedError, match=f"must write `{name}`"):
            getattr(Walk, name)(Ascent(), *[None] * arguments[name])


class TestSoftMargin:
    def test_is_the_soft_margin_of_the_softmax_at_a_temperature(self):
        logits = np.random.default_rng(0).normal(size=(5, 4))
        labels = np.arange(5) % 4
        temperature = np.ptp(logits, axis=1) / 20.0
        powers = np.exp(logits / temperature[:, None])
        own = powers[np.arange(5), labels]
        expected = temperature * np.log((powers.sum(1) - own) / own)
        for targeted, sign in ((False, 1), (True, -1)):
            margins = soft_margin(
                tf.constant(logits, tf.float32), tf.constant(labels), targeted=targeted
            )
            np.testing.assert_allclose(margins, sign * expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("scale", [1e-12, 1e6, 1e36])
    def test_has_the_scale_of_the_logits(self, scale):
        logits = tf.constant([[3.0, -2.0, 1.0], [0.0, 1.0, 0.5]])
        labels = tf.constant([0, 2])
        unit, scaled = (
            soft_margin(each, labels, targeted=False)
            for each in (logits, scale * logits)
        )
        np.testing.assert_allclose(scaled / scale, unit, rtol=1e-5)

    def test_equal_logits_have_a_finite_gradient(self):
        with tf.GradientTape() as tape:
            logits = tf.zeros((1, 3))
            tape.watch(logits)
            margins = soft_margin(logits, tf.constant([1]), targeted=False)
        np.testing.assert_allclose(tape.gradient(margins, logits), [[0.5, -1.0, 0.5]])

    def test_sure_models_have_a_gradient(self):
        logits = tf.constant([[np.inf, 0.0, 1.0], [200.0, 0.0, -1e38]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            margins = soft_margin(logits, tf.constant([0, 0]), targeted=False)
        slopes = tape.gradient(margins, logits).numpy()
        assert np.isfinite(slopes).all()
        assert np.all(slopes[1, :2] != 0)


def test_annealed_is_half_a_cosine():
    steps = np.arange(8)
    values = [float(annealed(tf.constant(float(i)), 8, 2.0, 0.5)) for i in steps]
    expected = 0.5 + 1.5 * (1 + np.cos(np.pi * steps / 8)) / 2
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("norm", "size"), [("linf", 0.9), ("l1", 1.6), ("l2", 1.1402), ("l0", 2.0)]
)
def test_widest_reaches_the_far_corner(norm, size):
    found = widest(tf.constant([[0.9, 0.3]]), norm)
    np.testing.assert_allclose(found, [size], rtol=1e-4)

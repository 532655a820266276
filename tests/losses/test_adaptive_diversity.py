import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_advdef.losses import AdaptiveDiversity
from keras_advdef.losses.adaptive_diversity import log_diversity, mean_entropy


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def by_numpy(labels, members, alpha, beta):
    """The formula of Pang et al. 2019 in float64, with the jitter of their code."""
    values = []
    for label, rows in zip(labels, np.asarray(members, "float64"), strict=True):
        mean = rows.mean(axis=0)
        entropy = -(mean * np.log(mean)).sum()
        wrong = np.delete(rows, label, axis=1)
        wrong /= np.linalg.norm(wrong, axis=1, keepdims=True)
        gram = wrong @ wrong.T + 1e-6 * np.eye(len(rows))
        values.append(-alpha * entropy - beta * np.linalg.slogdet(gram)[1])
    return np.array(values)


@pytest.fixture
def members():
    generator = np.random.default_rng(0)
    return softmax(generator.normal(size=(4, 3, 6))).astype("float32")


def value(members, labels=(0,), **arguments):
    loss = AdaptiveDiversity(reduction=None, **arguments)
    return loss(np.array(labels), members).numpy()


ONLY_VOLUME = {"entropy_weight": 0.0, "diversity_weight": 1.0}


class TestAdaptiveDiversity:
    def test_formula(self, members):
        labels = [0, 3, 5, 1]
        expected = by_numpy(labels, members, 2.0, 0.5)
        np.testing.assert_allclose(value(members, labels), expected, rtol=1e-5)

    def test_identical_members(self):
        equal = np.tile([[0.6, 0.1, 0.1, 0.1, 0.1]], (1, 3, 1))
        assert value(equal, **ONLY_VOLUME)[0] == pytest.approx(26.53, abs=0.01)
        # (K - 1) log(1e-6) + log(K + 1e-6)
        exact = -2.0 * np.log(1e-6) - np.log(3.0 + 1e-6)
        assert value(equal, **ONLY_VOLUME)[0] == pytest.approx(exact, abs=1e-3)

    def test_disjoint_members(self):
        apart = np.zeros((1, 3, 4))
        apart[0, :, 0] = 0.7
        apart[0, range(3), range(1, 4)] = 0.3
        expected = -3.0 * np.log(1.0 + 1e-6)
        assert value(apart, **ONLY_VOLUME)[0] == pytest.approx(expected, abs=1e-6)

    def test_true_class_is_removed(self, members):
        changed = members.copy()
        changed[:, :, 2] *= np.array([0.1, 0.5, 0.9])
        labels = [2] * 4
        first, second = (
            value(each, labels, **ONLY_VOLUME) for each in (members, changed)
        )
        np.testing.assert_allclose(first, second, rtol=1e-5)
        assert not np.allclose(value(members, [1] * 4, **ONLY_VOLUME), first)

    def test_length_of_a_member_does_not_matter(self, members):
        scaled = members * np.array([1.0, 0.01, 7.0])[None, :, None]
        labels = [1] * 4
        np.testing.assert_allclose(
            value(scaled, labels, **ONLY_VOLUME),
            value(members, labels, **ONLY_VOLUME),
            rtol=1e-5,
        )

    def test_order_of_the_members_does_not_matter(self, members):
        labels = [0, 1, 2, 3]
        np.testing.assert_allclose(
            value(members[:, [2, 0, 1]], labels), value(members, labels), rtol=1e-5
        )

    def test_entropy_is_that_of_the_mean_in_nats(self, members):
        flat = tf.fill((1, 3, 10), 0.1)
        assert float(mean_entropy(flat)[0]) == pytest.approx(np.log(10.0), abs=1e-5)
        own = np.mean([mean_entropy(members[:, k : k + 1]) for k in range(3)], axis=0)
        assert (mean_entropy(members).numpy() >= own - 1e-6).all()
        got = value(flat, entropy_weight=2.0, diversity_weight=0.0)
        assert got[0] == pytest.approx(-2.0 * np.log(10.0), abs=1e-5)

    def test_logits(self, members):
        labels = [0, 1, 2, 3]
        shifted = np.log(members) + 3.0
        np.testing.assert_allclose(
            value(shifted, labels, from_logits=True), value(members, labels), rtol=1e-4
        )

    def test_one_hot_labels(self, members):
        labels = np.array([0, 3, 5, 1])
        loss = AdaptiveDiversity()
        assert float(loss(np.eye(6)[labels], members)) == pytest.approx(
            float(loss(labels, members))
        )

    @pytest.mark.parametrize("kind", ["equal", "certain", "one certain"])
    def test_gradient_is_finite_where_members_agree_or_are_certain(self, kind):
        logits = np.zeros((2, 3, 5), "float32")
        if kind == "certain":
            logits[..., 0] = 400.0
        if kind == "one certain":
            logits[:, 1, 0] = 400.0
        logits = tf.constant(logits)
        loss = AdaptiveDiversity(from_logits=True)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = loss(np.array([0, 1]), logits)
        assert np.isfinite(total)
        assert np.isfinite(tape.gradient(total, logits)).all()

    def test_gradient_is_that_of_finite_differences(self, members):
        labels = np.array([0, 3, 5, 1])
        logits = np.log(members)
        variable = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(variable)
            total = AdaptiveDiversity(from_logits=True, reduction="sum")(
                labels, variable
            )
        gradient = tape.gradient(total, variable).numpy()
        step = 1e-5
        for place in [(0, 0, 0), (0, 1, 3), (2, 2, 5), (3, 0, 4)]:
            shift = np.zeros_like(logits, "float64")
            shift[place] = step
            up, down = (
                by_numpy(labels, softmax(logits + sign * shift), 2.0, 0.5).sum()
                for sign in (1, -1)
            )
            expected = (up - down) / (2.0 * step)
            assert gradient[place] == pytest.approx(expected, rel=1e-3, abs=1e-4)

    def test_xla(self, members):
        labels = tf.constant([0, 1, 2, 3])
        loss = AdaptiveDiversity()
        jitted = tf.function(loss, jit_compile=True)(labels, tf.constant(members))
        assert float(jitted) == pytest.approx(float(loss(labels, members)), rel=1e-4)

    def test_float16(self, members):
        got = value(members.astype("float16"), [0, 1, 2, 3])
        expected = value(members, [0, 1, 2, 3])
        np.testing.assert_allclose(got, expected, rtol=0.02)

    def test_survives_serialisation(self):
        loss = AdaptiveDiversity(entropy_weight=1.0, from_logits=True)
        again = AdaptiveDiversity.from_config(loss.get_config())
        assert (again.entropy_weight, again.diversity_weight) == (1.0, 0.5)
        assert again.from_logits

    def test_too_many_members(self):
        with pytest.raises(ValueError, match="at most 2 members for 3 classes"):
            AdaptiveDiversity()([0], np.full((1, 3, 3), 1 / 3))

    def test_single_prediction(self):
        with pytest.raises(ValueError, match=r"shape \(batch, members, classes\)"):
            AdaptiveDiversity()([0], np.full((1, 3), 1 / 3))

    @pytest.mark.parametrize("argument", ["entropy_weight", "diversity_weight"])
    def test_negative_weight(self, argument):
        with pytest.raises(ValueError, match=f"`{argument}`"):
            AdaptiveDiversity(**{argument: -1.0})


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    hypothesis.extra.numpy.arrays(
        "float32", (3, 3, 5), elements=st.floats(-50, 50, width=32)
    )
)
def test_volume_lies_between_zero_and_one(logits):
    found = log_diversity(tf.constant([0, 1, 2]), tf.nn.softmax(logits)).numpy()
    assert (found <= 1e-4).all()
    assert (found >= 3.0 * np.log(1e-6) - 1e-3).all()

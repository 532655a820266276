import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.predictions import (
    NO_CLASS,
    bound_logits,
    check_finite_logits,
    class_margins,
    full_precision_logits,
    largest_logits,
    logit_margin,
    most_likely_wrong,
    predicted_classes,
    rounding_margin,
)
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import RandomNoise
from tests.support.kernels import missing_kernels
from tests.support.nets import small_net

NAN, INF = np.nan, np.inf
ROWS = {
    (1.0, 3.0, 2.0): 1,
    (2.0, 2.0, 1.0): 0,
    (NAN, 3.0, 2.0): NO_CLASS,
    (1.0, NAN, 2.0): NO_CLASS,
    (1.0, 3.0, NAN): NO_CLASS,
    (NAN, NAN, NAN): NO_CLASS,
    (INF, 3.0, NAN): NO_CLASS,
    (1.0, INF, 2.0): 1,
    (3.0, -INF, INF): 2,
    (-INF, -INF, 2.0): 2,
    (INF, 0.0, INF): 0,
}


@pytest.mark.parametrize("how", ["numpy", "eager", "graph", "jit"])
def test_class_is_the_same_everywhere_and_nan_is_none(how):
    outputs = np.array(list(ROWS), "float32")
    call = predicted_classes
    if how in ("graph", "jit"):
        call = tf.function(call, autograph=False, jit_compile=how == "jit")
    found = call(outputs if how == "numpy" else tf.constant(outputs))
    assert np.asarray(found).tolist() == list(ROWS.values())


def test_honest_outputs_are_decided_as_ever():
    outputs = np.random.default_rng(0).normal(size=(1000, 5)).round(1)
    found = predicted_classes(tf.constant(outputs))
    np.testing.assert_array_equal(found, outputs.argmax(axis=1))


class TestBounded:
    def test_leaves_honest_logits_to_the_bit(self):
        logits = np.array([[0.0, -0.0, 1e-40, 9e37, -9e37, NAN]], "float32")
        assert bound_logits(tf.constant(logits)).numpy().tobytes() == logits.tobytes()

    def test_differences_and_softmax_are_finite(self):
        logits = bound_logits(tf.constant([[INF, -INF, 3e38], [INF, 0.0, INF]]))
        assert np.isfinite(logits[:, :1] - logits).all()
        np.testing.assert_array_equal(tf.nn.softmax(logits)[1], [0.5, 0.0, 0.5])

    def test_honest_gradients_pass(self):
        logits = tf.constant([[1.0, INF]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = tf.reduce_sum(3.0 * bound_logits(logits))
        assert tape.gradient(total, logits).numpy().tolist() == [[3.0, 0.0]]


class TestExactLogits:
    def test_values_are_exact_and_gradients_are_fast(self, net, images):
        full, fast = (
            LogitsFunction(net, precision=each) for each in ("float32", "bfloat16")
        )

        def first(logits_fn):
            return lambda x: (
                full_precision_logits(logits_fn, x, make_key(0))[:, 0],
                None,
            )

        points = tf.constant(images)
        values, _, slope = input_gradient(first(full), points)
        fast_values, _, fast_slope = input_gradient(first(fast), points)
        np.testing.assert_array_equal(values, fast_values)
        assert np.any(slope != fast_slope)
        # Single values differ by more if rounding changed the sign of an activation.
        rest = np.linalg.norm(slope - fast_slope)
        assert rest < 0.2 * np.linalg.norm(slope)

    def test_both_passes_see_the_same_draws(self, images):
        net = small_net(front=[RandomNoise(0.3)])
        fast = LogitsFunction(net, precision="bfloat16")
        with draw_scope(make_key(3)):
            expected = fast.full_precision(images)
        np.testing.assert_array_equal(
            full_precision_logits(fast, images, make_key(3)), expected
        )
        assert np.any(full_precision_logits(fast, images, make_key(4)) != expected)


class TestLead:
    def test_is_the_distance_to_the_best_other_class(self):
        logits = tf.constant([[2.0, 1.0, 0.0, -1.0], [0.5, 1.5, 0.0, -1.0]])
        labels = tf.constant([0, 0])
        np.testing.assert_allclose(
            logit_margin(logits, labels, targeted=False), [-1, 1]
        )
        np.testing.assert_allclose(logit_margin(logits, labels, targeted=True), [1, -1])

    def test_is_positive_exactly_where_the_class_changes(self):
        logits = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
        labels = np.arange(50) % 4
        ahead = logit_margin(tf.constant(logits), tf.constant(labels), targeted=False)
        np.testing.assert_array_equal(ahead > 0, logits.argmax(-1) != labels)


class TestLikeliestWrong:
    def test_is_sorted_and_leaves_the_label_out(self):
        logits = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
        labels = np.arange(6) % 5
        ranked = [
            [k for k in np.argsort(-row) if k != label]
            for row, label in zip(logits, labels, strict=True)
        ]
        for count in (1, 3, 4, 9):
            found = most_likely_wrong(tf.constant(logits), tf.constant(labels), count)
            assert found.dtype == labels.dtype
            np.testing.assert_array_equal(found, np.array(ranked)[:, :count])


class TestLeadsOf:
    def test_are_differences_from_the_label(self):
        logits = tf.constant([[2.0, 5.0, 3.0], [1.0, 0.0, -2.0]])
        classes = tf.constant([[0, 2], [2, 1]])
        found = class_margins(logits, tf.constant([1, 0]), classes)
        np.testing.assert_array_equal(found, [[-3, -2], [-3, -1]])


class TestLeastLead:
    def test_grows_with_the_logits(self):
        logits = tf.constant([[3.0, -20.0, 0.0]])
        least = rounding_margin(logits)
        np.testing.assert_allclose(least, 2e-4, rtol=1e-6)
        np.testing.assert_allclose(rounding_margin(1000.0 * logits), 1000 * least)

    def test_equal_logits_do_not_lead(self):
        zeros = tf.zeros((1, 3))
        assert not np.any(
            logit_margin(zeros, [0], targeted=False) >= rounding_margin(zeros)
        )

    def test_bfloat16_needs_more(self):
        logits = tf.constant([[4.0, -64.0]])
        assert float(rounding_margin(logits, is_coarse=True)[0]) == 1.0
        assert float(rounding_margin(logits)[0]) < 1e-3

    def test_lets_no_gradient_pass(self):
        logits = tf.constant([[3.0, 1.0]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            least = rounding_margin(logits)
        assert tape.gradient(least, logits) is None


def test_matches_sorting():
    logits = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    expected = np.sort(logits, axis=-1)[:, ::-1]
    found = np.stack(largest_logits(tf.constant(logits), 6), axis=1)
    np.testing.assert_array_equal(found, expected)


def test_equal_values_count_as_often_as_they_occur():
    values = largest_logits(tf.constant([[2.0, 2.0, 1.0]]), 3)
    assert [float(each[0]) for each in values] == [2.0, 2.0, 1.0]


def test_gradient_goes_to_the_place_and_runs_anywhere():
    def gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            third = tf.reduce_sum(largest_logits(logits, 3)[2])
        return tape.gradient(third, logits)

    logits = tf.constant([[1.0, 4.0, 2.0, 3.0]] * 50)
    np.testing.assert_array_equal(gradient(logits)[0], [0, 0, 1, 0])
    assert missing_kernels(gradient, logits) == {}


def test_check_finite_logits_names_the_image():
    is_finite = np.array([True, False, False])
    match = "`PGD` expects `surrogate` to be a model with finite logits; it gives NaN"
    with pytest.raises(ValueError, match=f"{match} or infinity for image 11"):
        check_finite_logits("PGD", "surrogate", len, is_finite, first=10)

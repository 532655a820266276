import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.decided import bounded, decided

NAN, INF = np.nan, np.inf
ROWS = {
    (1.0, 3.0, 2.0): 1,
    (2.0, 2.0, 1.0): 0,
    (NAN, 3.0, 2.0): -1,
    (1.0, 3.0, NAN): -1,
    (NAN, NAN, NAN): -1,
    (INF, 3.0, NAN): -1,
    (1.0, INF, 2.0): 1,
    (-INF, -INF, 2.0): 2,
    (INF, 0.0, INF): 0,
}


@pytest.mark.parametrize("how", ["eager", "graph", "jit", "numpy"])
def test_class_is_the_same_everywhere_and_none_for_nan(how):
    scores = np.array(list(ROWS), "float32")
    call = decided
    if how in ("graph", "jit"):
        call = tf.function(decided, autograph=False, jit_compile=how == "jit")
    given = scores if how == "numpy" else tf.constant(scores)
    assert call(given).numpy().tolist() == list(ROWS.values())


def test_honest_scores_are_decided_as_ever():
    scores = np.random.default_rng(0).normal(size=(1000, 5)).round(1)
    np.testing.assert_array_equal(decided(scores), scores.argmax(axis=1))


class TestBounded:
    def test_leaves_honest_logits_to_the_bit(self):
        logits = np.array([[0.0, -0.0, 1e-40, 9e37, -9e37, NAN]], "float32")
        assert bounded(tf.constant(logits)).numpy().tobytes() == logits.tobytes()

    def test_differences_and_softmax_are_finite(self):
        logits = bounded(tf.constant([[INF, -INF, 3e38], [INF, 0.0, INF]]))
        assert np.isfinite(logits[:, :1] - logits).all()
        np.testing.assert_array_equal(tf.nn.softmax(logits)[1], [0.5, 0.0, 0.5])

    def test_honest_gradients_pass(self):
        logits = tf.constant([[1.0, INF]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            total = tf.reduce_sum(3.0 * bounded(logits))
        assert tape.gradient(total, logits).numpy().tolist() == [[3.0, 0.0]]

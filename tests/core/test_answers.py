import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.answers import NO_ANSWER, bounded, predicted_classes

NAN, INF = np.nan, np.inf
ROWS = {
    (1.0, 3.0, 2.0): 1,
    (2.0, 2.0, 1.0): 0,
    (NAN, 3.0, 2.0): NO_ANSWER,
    (1.0, NAN, 2.0): NO_ANSWER,
    (1.0, 3.0, NAN): NO_ANSWER,
    (NAN, NAN, NAN): NO_ANSWER,
    (INF, 3.0, NAN): NO_ANSWER,
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

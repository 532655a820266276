import gc
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.core.logits import LogitsFunction, classifier_logits
from keras_advdef.core.softmax_head import (
    are_probabilities,
    logarithms,
    stands_for_logits,
    takes_probabilities,
)

_SHAPE = (4, 4, 1)
_HIDDEN = "returns probabilities, and nothing shows how they were made"


class Opaque(keras.Model):
    """A net that ends in code of its own."""

    def __init__(self, head, units=3):
        super().__init__()
        self.flat = keras.layers.Flatten()
        self.dense = keras.layers.Dense(units)
        self.head = head

    def call(self, inputs):
        return self.head(self.dense(self.flat(inputs)))


def _by_hand(z):
    return tf.exp(z) / tf.reduce_sum(tf.exp(z), axis=1, keepdims=True)


def _sigmoid_by_hand(z):
    return 1.0 / (1.0 + tf.exp(-z))


@pytest.fixture
def images():
    generator = np.random.default_rng(1)
    return tf.constant(generator.uniform(size=(6, *_SHAPE)), tf.float32)


def _modes(images):
    return {
        "eager": lambda function: function(images),
        "graph": lambda function: tf.function(function)(images),
        "compiled": lambda function: tf.function(function, jit_compile=True)(images),
    }


@pytest.mark.parametrize("mode", ["eager", "graph", "compiled"])
class TestHiddenHeads:
    def test_softmax_becomes_its_logarithm_and_is_told_once(self, mode, images):
        model = Opaque(_by_hand)
        expected = tf.nn.log_softmax(model.dense(model.flat(images)))
        run = _modes(images)[mode]
        with pytest.warns(UserWarning, match=_HIDDEN) as told:
            logits = run(LogitsFunction(model))
        assert len(told) == 1
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert stands_for_logits(model)
        run(LogitsFunction(model))
        np.testing.assert_allclose(
            run(lambda x: classifier_logits(model, x)), expected, atol=1e-5
        )

    def test_sigmoid_of_one_unit(self, mode, images):
        model = Opaque(_sigmoid_by_hand, units=1)
        z = model.dense(model.flat(images))
        expected = np.concatenate([-np.log1p(np.exp(z)), -np.log1p(np.exp(-z))], 1)
        with pytest.warns(UserWarning, match=_HIDDEN):
            logits = _modes(images)[mode](LogitsFunction(model))
        np.testing.assert_allclose(logits, expected, atol=1e-5)

    @pytest.mark.parametrize("head", [tf.nn.softmax, keras.ops.softmax])
    def test_a_softmax_in_own_code_is_undone(self, head, mode, images):
        model = Opaque(head)
        expected = model.dense(model.flat(images))
        run = _modes(images)[mode]
        np.testing.assert_allclose(run(LogitsFunction(model)), expected, atol=1e-6)
        assert not stands_for_logits(model)

    def test_logits_stay_logits(self, mode, images):
        for units, expected_units in ((3, 3), (1, 2)):
            model = Opaque(lambda z: 2.0 * z, units=units)
            expected = 2.0 * model.dense(model.flat(images))
            logits = _modes(images)[mode](LogitsFunction(model)).numpy()
            assert logits.shape[1] == expected_units
            np.testing.assert_allclose(logits[:, -units:], expected, atol=1e-5)
            assert not stands_for_logits(model)


def test_plain_functions_in_a_users_own_graph(images):
    def model(x):
        return _by_hand(4.0 * x[:, 0, :3, 0])

    @tf.function
    def attack(x, y):
        return FGSM(0.1)(model, x, y, seed=0)

    with pytest.warns(UserWarning, match="`model` returns prob"):
        found = attack(images, np.zeros(6, "int64"))
    bare = FGSM(0.1)(lambda x: 4.0 * x[:, 0, :3, 0], images, np.zeros(6), seed=0)
    np.testing.assert_allclose(found, bare, atol=1e-6)


def test_a_head_that_saturates_is_undone(images):
    """Probabilities that round to 1 have no gradient; their logits do."""
    plain = Opaque(lambda z: 1000.0 * z)
    plain(images)
    steep = Opaque(lambda z: tf.nn.softmax(1000.0 * z))
    steep(images)
    steep.set_weights(plain.get_weights())
    labels = np.argmax(plain(images), axis=-1)
    for attack in (
        lambda m: FGSM(0.1)(m, images, labels, seed=0),
        lambda m: FGSM(0.1).generate(m, images, labels, seed=0, verbose=0),
    ):
        np.testing.assert_allclose(attack(steep), attack(plain), atol=1e-6)


class TestLookLeavesNoTrace:
    def test_neither_state_nor_losses(self, images):
        class Counting(keras.layers.Layer):
            def build(self, shape):
                self.count = self.add_weight(shape=(), initializer="zeros")

            def call(self, x):
                self.count.assign_add(1.0)
                self.add_loss(keras.ops.sum(x))
                return x

        counting = Counting()
        model = keras.Sequential([keras.Input(_SHAPE), counting, Opaque(_by_hand)])
        model(images)
        losses = [float(each) for each in model.losses]
        with pytest.warns(UserWarning, match=_HIDDEN):
            tf.function(LogitsFunction(model))(images)
        assert float(counting.count) == 1.0
        assert [float(each) for each in model.losses] == losses

    def test_models_are_let_go(self, images):
        model = Opaque(_by_hand)
        with pytest.warns(UserWarning, match=_HIDDEN):
            LogitsFunction(model)(images)
        key = id(model)
        from keras_advdef.core import softmax_head as probabilities

        assert key in probabilities._known
        del model
        gc.collect()
        assert key not in probabilities._known


class TestOneUnit:
    """Values in [0, 1] alone do not tell a probability from a small logit."""

    @pytest.mark.parametrize("from_logits", [False, True])
    def test_the_loss_decides(self, from_logits, images):
        model = Opaque(lambda z: 0.5 + 0.01 * tf.tanh(z), units=1)
        model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=from_logits))
        p = model(images).numpy()
        if from_logits:
            logits, expected = LogitsFunction(model)(images), p
        else:
            with pytest.warns(UserWarning, match=_HIDDEN):
                logits = LogitsFunction(model)(images)
            expected = np.log(p) - np.log(1.0 - p)
        np.testing.assert_allclose(logits[:, 1:] - logits[:, :1], expected, atol=1e-5)

    def test_a_last_layer_that_is_seen_decides(self, images):
        net = keras.Sequential(
            [
                keras.Input(_SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(
                    1, kernel_initializer="zeros", bias_initializer="ones"
                ),
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_allclose(LogitsFunction(net)(images)[:, 1], np.ones(6))


def test_are_probabilities():
    assert are_probabilities(np.array([[0.2, 0.8], [1.0, 0.0]]))
    assert are_probabilities(np.array([[0.2], [1.0]]))
    # Rows that sum to one by chance are none if one is negative.
    assert not are_probabilities(np.array([[1.5, -0.5]]))
    assert not are_probabilities(np.array([[0.5, 0.5], [0.5, 0.6]]))
    assert not are_probabilities(np.array([[0.2], [1.2]]))
    assert not are_probabilities(np.zeros((4, 1)))


def test_logarithms():
    found = logarithms(tf.constant([[0.25, 0.75], [0.0, 1.0]], tf.float16))
    np.testing.assert_allclose(found, np.log([[0.25, 0.75], [1e-30, 1.0]]), rtol=1e-5)
    np.testing.assert_allclose(logarithms(tf.constant([[1.0]])), np.log([[1e-30, 1.0]]))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (keras.losses.CategoricalCrossentropy(), True),
        (keras.losses.BinaryCrossentropy(from_logits=True), False),
        (keras.losses.get("categorical_crossentropy"), True),
        ("bce", True),
        ("ce", True),
        ("mse", None),
        (keras.losses.CategoricalHinge(), None),
        (None, None),
    ],
)
def test_takes_probabilities(loss, expected):
    assert takes_probabilities(loss) is expected

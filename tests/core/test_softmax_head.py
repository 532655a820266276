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
    expects_probabilities,
    is_unbounded,
    log_probabilities,
    logits_spec,
    single_output,
    two_class_logits,
    undo_head,
    uses_log_probabilities,
)

_Z = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -30.0]], "float32")
_KERNEL = np.eye(3, dtype="float32")


def _graph_of(function, images=_Z):
    """The result of a function on symbolic tensors."""
    found = []
    traced = tf.function(lambda x: found.append(function(x)), autograph=False)
    traced.get_concrete_function(tf.TensorSpec((None, *images.shape[1:])))
    return found[0]


_SOFTMAX = {
    "plain": tf.nn.softmax,
    "of Keras": keras.ops.softmax,
    "cast": lambda z: tf.cast(tf.nn.softmax(z), tf.float64),
    "flattened": lambda z: tf.reshape(tf.nn.softmax(z[:, None, :]), (-1, 3)),
    "squeezed": lambda z: tf.squeeze(tf.nn.softmax(z[:, None, None, :]), [1, 2]),
    "half": lambda z: tf.nn.softmax(tf.cast(z, tf.float16)),
}


class TestSoftmax:
    @pytest.mark.parametrize("kind", _SOFTMAX)
    @pytest.mark.parametrize("jit", [False, True])
    def test_in_a_graph(self, kind, jit):
        undo = tf.function(
            lambda z: undo_head("PGD", _SOFTMAX[kind](z)), jit_compile=jit
        )
        logits = undo(_Z)
        assert logits.dtype == "float32"
        np.testing.assert_array_equal(logits, _Z)

    def test_eager_of_keras(self):
        np.testing.assert_array_equal(undo_head("PGD", keras.ops.softmax(_Z)), _Z)

    def test_eager_of_others_is_not_seen(self):
        assert undo_head("PGD", tf.nn.softmax(_Z)) is None

    def test_a_reshape_that_mixes_classes_is_not_undone(self):
        def mixed(z):
            return undo_head("PGD", tf.reshape(tf.nn.softmax(z), (1, -1)))

        assert (
            tf.function(mixed)
            .get_concrete_function(tf.TensorSpec((2, 3)))
            .structured_outputs
            is None
        )

    def test_of_one_unit_is_refused(self):
        one = tf.constant([[0.3], [-2.0]])
        with pytest.raises(ValueError, match="softmax of one unit is always 1"):
            _graph_of(lambda z: undo_head("PGD", tf.nn.softmax(z)), one)
        with pytest.warns(UserWarning, match="has size 1"):
            outputs = keras.ops.softmax(one)
        with pytest.raises(ValueError, match="softmax of one unit is always 1"):
            undo_head("PGD", outputs)


class TestSigmoid:
    @pytest.mark.parametrize("eager", [False, True])
    def test_one_logit_becomes_two(self, eager):
        z = tf.constant([[3.0], [-0.5], [90.0]])

        def undo(z):
            return undo_head("PGD", keras.ops.sigmoid(z))

        logits = undo(z) if eager else tf.function(undo)(z)
        np.testing.assert_array_equal(logits, [[0.0, 3.0], [0.0, -0.5], [0.0, 90.0]])

    def test_an_added_axis_does_not_matter(self):
        z = tf.constant([3.0, -0.5])
        undo = tf.function(
            lambda z: undo_head("PGD", tf.expand_dims(tf.nn.sigmoid(z), 1))
        )
        np.testing.assert_array_equal(undo(z), [[0.0, 3.0], [0.0, -0.5]])

    @pytest.mark.parametrize("eager", [False, True])
    def test_several_labels_are_refused(self, eager):
        def undo(z):
            return undo_head("PGD", keras.ops.sigmoid(z))

        rule = "one class per image.*sigmoid of 3 units.*do not exclude each other"
        with pytest.raises(ValueError, match=rule):
            undo(tf.constant(_Z)) if eager else tf.function(undo)(_Z)


@pytest.mark.parametrize(
    ("function", "affine"),
    [
        (lambda z: z @ _KERNEL, True),
        (lambda z: z @ _KERNEL + 1.0, True),
        (lambda z: tf.nn.bias_add(z, tf.ones(3)), True),
        (tf.nn.log_softmax, True),
        (lambda z: tf.reshape(tf.cast(z @ _KERNEL, tf.float16), (-1, 3)), True),
        (tf.nn.softmax, False),
        (lambda z: 0.5 * tf.nn.softmax(z) + 0.5 * tf.nn.softmax(2.0 * z), False),
        (lambda z: z, False),
    ],
)
def test_is_affine(function, affine):
    assert _graph_of(lambda z: is_unbounded(function(z))) == affine


class TestSingleOutput:
    def test_structures_of_one(self):
        outputs = tf.constant(_Z)
        for structure in (outputs, [outputs], {"logits": outputs}, ({"a": [outputs]},)):
            assert single_output("PGD", structure) is outputs

    @pytest.mark.parametrize(
        "outputs",
        [[_Z, _Z], {"a": _Z, "b": _Z}, [], tf.zeros(3), tf.zeros((2, 3, 1)), None, _Z],
    )
    def test_everything_else(self, outputs):
        rule = r"`PGD` expects `model` to be a classifier with one output of shape"
        with pytest.raises(ValueError, match=rule):
            single_output("PGD", outputs)


def test_two_classes():
    np.testing.assert_array_equal(two_class_logits(tf.constant([[2.0]])), [[0.0, 2.0]])
    np.testing.assert_array_equal(two_class_logits(tf.constant(_Z)), _Z)


def test_logits_spec():
    for shape, expected in (((None, 1), (None, 2)), ((4, 3), (4, 3))):
        for outputs in (keras.KerasTensor(shape), {"a": keras.KerasTensor(shape)}):
            spec = logits_spec(outputs)
            assert (spec.shape, spec.dtype) == (expected, "float32")


_SHAPE = (4, 4, 1)
_HIDDEN = "returns probabilities, but does not show how"


class Opaque(keras.Model):
    """A net that ends in custom code."""

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
    def test_softmax_becomes_its_logarithm_with_one_warning(self, mode, images):
        model = Opaque(_by_hand)
        expected = tf.nn.log_softmax(model.dense(model.flat(images)))
        run = _modes(images)[mode]
        with pytest.warns(UserWarning, match=_HIDDEN) as told:
            logits = run(LogitsFunction(model))
        assert len(told) == 1
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert uses_log_probabilities(model)
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
        assert not uses_log_probabilities(model)

    def test_logits_stay_logits(self, mode, images):
        for units, expected_units in ((3, 3), (1, 2)):
            model = Opaque(lambda z: 2.0 * z, units=units)
            expected = 2.0 * model.dense(model.flat(images))
            logits = _modes(images)[mode](LogitsFunction(model)).numpy()
            assert logits.shape[1] == expected_units
            np.testing.assert_allclose(logits[:, -units:], expected, atol=1e-5)
            assert not uses_log_probabilities(model)


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
    """Values in [0, 1] may be probabilities or small logits."""

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
    # Rows that sum to one are not probabilities if an entry is negative.
    assert not are_probabilities(np.array([[1.5, -0.5]]))
    assert not are_probabilities(np.array([[0.5, 0.5], [0.5, 0.6]]))
    assert not are_probabilities(np.array([[0.2], [1.2]]))
    assert not are_probabilities(np.zeros((4, 1)))


def test_logarithms():
    found = log_probabilities(tf.constant([[0.25, 0.75], [0.0, 1.0]], tf.float16))
    np.testing.assert_allclose(found, np.log([[0.25, 0.75], [1e-30, 1.0]]), rtol=1e-5)
    np.testing.assert_allclose(
        log_probabilities(tf.constant([[1.0]])), np.log([[1e-30, 1.0]])
    )


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
    assert expects_probabilities(loss) is expected

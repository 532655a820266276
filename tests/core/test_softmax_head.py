import gc
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.core.logits import LogitsFunction, classifier_logits
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.softmax_head import (
    expects_probabilities,
    is_unbounded,
    log_scores,
    logits_spec,
    row_total,
    score_total,
    single_output,
    two_class_logits,
    undo_head,
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
        assert score_total(model) == 1.0
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
        assert score_total(model) == 0.0

    def test_logits_stay_logits(self, mode, images):
        for units, expected_units in ((3, 3), (1, 2)):
            model = Opaque(lambda z: 2.0 * z, units=units)
            expected = 2.0 * model.dense(model.flat(images))
            logits = _modes(images)[mode](LogitsFunction(model)).numpy()
            assert logits.shape[1] == expected_units
            np.testing.assert_allclose(logits[:, -units:], expected, atol=1e-5)
            assert score_total(model) == 0.0


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


@pytest.mark.parametrize(
    ("outputs", "total"),
    [
        ([[0.2, 0.8], [1.0, 0.0]], 1.0),
        ([[0.2], [1.0]], 1.0),
        ([[3, 4, 0], [7, 0, 0]], 7.0),
        ([[3e38, 0.0], [1e38, 2e38]], 3e38),
        ([[0.25, 0.75]], 1.0),
        ([[3, 4, 0]], 0.0),
        ([[3, 4, 0], [3, 4, 0]], 0.0),
        # A sum of rows that a model cannot score.
        ([[np.nan, np.nan], [1.0, 0.0]], 1.0),
        # Logits that sum to one.
        ([[1.5, -0.5]], 0.0),
        ([[0.5, 0.5], [0.5, 0.6]], 0.0),
        ([[np.inf, 0.0], [np.inf, 1.0]], 0.0),
        ([[np.nan, 0.0]], 0.0),
        ([[0.2], [1.2]], 0.0),
        (np.zeros((4, 1)), 0.0),
        (np.zeros((4, 2)), 0.0),
    ],
)
def test_sums_of_rows(outputs, total):
    assert row_total(np.array(outputs)) == pytest.approx(total)


def test_logarithms():
    found = log_scores(tf.constant([[0.25, 0.75], [0.0, 1.0]], tf.float16))
    np.testing.assert_allclose(found, np.log([[0.25, 0.75], [1e-30, 1.0]]), rtol=1e-5)
    np.testing.assert_allclose(log_scores(tf.constant([[1.0]])), np.log([[1e-30, 1.0]]))
    votes = log_scores(tf.constant([[3, 4, 0]]), 7.0)
    np.testing.assert_allclose(votes, np.log([[3 / 7, 4 / 7, 1e-30]]), rtol=1e-5)


def test_rows_that_are_no_scores_stay(in_every_mode):
    rows = [[np.nan, 0.5], [-0.5, 1.5], [3.0, 1.0], [0.26, 0.75], [np.inf, 0.0]]
    expected = np.array(rows)
    expected[3] = np.log(expected[3])
    for found in in_every_mode(log_scores, tf.constant(rows)):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    single = tf.constant([[-3.0], [0.25]])
    for found in in_every_mode(log_scores, single):
        np.testing.assert_allclose(found, [[0.0, -3.0], np.log([0.75, 0.25])], 1e-6)


def test_a_model_that_changes_after_the_probes_keeps_its_logits(images):
    """Votes for noise, but logits, all negative, for the images."""

    def model(x):
        is_noise = tf.reduce_any(x[:, 0, 0] != 0.5, axis=1, keepdims=True)
        return tf.where(is_noise, [5.0, 2.0, 0.0], -x[:, 1, :3, 0])

    marked = images.numpy()
    marked[:, 0, 0] = 0.5
    for mode in _modes(tf.constant(marked)).values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = mode(LogitsFunction(model))
        np.testing.assert_array_equal(found, -marked[:, 1, :3, 0])


def _votes(z):
    """Five committees' votes, which have no gradient."""
    members = [tf.roll(z, shift, axis=1) + shift * z for shift in range(5)]
    return tf.add_n([tf.one_hot(tf.argmax(each, axis=1), 3) for each in members])


def _kernel_density(z):
    """Weights of neighbours; where none is near, zero by zero."""
    weights = tf.exp(-tf.square(30.0 * z))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


SCORES = {
    "votes": (_votes, 5.0),
    "shares of votes": (lambda z: _votes(z) / 5.0, 1.0),
    "counts": (lambda z: tf.cast(_votes(z), tf.int32), 5.0),
    "scaled softmax": (lambda z: 4.0 * tf.nn.softmax(z), 4.0),
    "kernel density": (_kernel_density, 1.0),
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.filterwarnings("ignore:.*returns probabilities")
class TestScores:
    """Models whose rows have one sum and that end in no softmax."""

    @pytest.mark.parametrize("mode", ["graph", "compiled"])
    def test_their_logarithm_serves(self, kind, mode, images):
        head, total = SCORES[kind]
        model = Opaque(head)
        scores = model(images).numpy()
        expected = np.log(np.maximum(scores / total, 1e-30))
        logits = _modes(images)[mode](LogitsFunction(model))
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert score_total(model) == pytest.approx(total, rel=1e-3)
        # From now on in eager mode, too, and of a single image.
        for some in (images, images[:1]):
            logits = LogitsFunction(model)(some)
            np.testing.assert_allclose(logits, expected[: len(some)], atol=1e-4)

    def test_an_eager_call_alone_changes_no_decision(self, kind, images):
        model = Opaque(SCORES[kind][0])
        logits = LogitsFunction(model)(images).numpy()
        assert (logits.argmax(axis=1) == model(images).numpy().argmax(axis=1)).all()

    # Divided by these, the logits of some would sum to one.
    @pytest.mark.parametrize("temperature", [0.2, 1.0, 4.0, 5.0])
    def test_a_view_is_of_the_models_logits(self, kind, temperature, images):
        model = Opaque(SCORES[kind][0])
        view = ModelView(model, temperature=temperature)
        own = tf.function(LogitsFunction(model))(images)
        for mode in _modes(images).values():
            found = mode(LogitsFunction(view))
            np.testing.assert_allclose(found, own / temperature, atol=1e-4)


def test_views_of_logits_that_look_like_probabilities(images):
    """The guards look at the model's logits, not at those of the view."""

    def model(x):
        z = x[:, 0, :3, 0]
        return tf.stack([1.0 + z[:, 0], z[:, 1], 3.0 - z[:, 0] - z[:, 1]], axis=1) @ (
            tf.eye(3)
        )

    for mode in _modes(images).values():
        viewed = mode(LogitsFunction(ModelView(model, temperature=4.0)))
        np.testing.assert_allclose(tf.reduce_sum(viewed, axis=1), np.ones(6), 1e-5)
        np.testing.assert_allclose(viewed, model(images) / 4.0, atol=1e-6)


def test_trained_logits_of_one_sum_stay_logits(images):
    model = Opaque(lambda z: 4.0 * tf.nn.softmax(z))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    np.testing.assert_allclose(LogitsFunction(model)(images), model(images), atol=1e-5)
    assert score_total(model) == 0.0


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

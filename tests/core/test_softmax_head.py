import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.softmax_head import (
    is_affine,
    logits_spec,
    single_output,
    two_classes,
    undone,
)

_Z = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -30.0]], "float32")
_KERNEL = np.eye(3, dtype="float32")


def _graph_of(function, images=_Z):
    """What a function returns about symbolic tensors."""
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
        undo = tf.function(lambda z: undone("PGD", _SOFTMAX[kind](z)), jit_compile=jit)
        logits = undo(_Z)
        assert logits.dtype == "float32"
        np.testing.assert_array_equal(logits, _Z)

    def test_eager_of_keras(self):
        np.testing.assert_array_equal(undone("PGD", keras.ops.softmax(_Z)), _Z)

    def test_eager_of_others_is_not_seen(self):
        assert undone("PGD", tf.nn.softmax(_Z)) is None

    def test_a_reshape_that_mixes_classes_is_not_undone(self):
        def mixed(z):
            return undone("PGD", tf.reshape(tf.nn.softmax(z), (1, -1)))

        assert (
            tf.function(mixed)
            .get_concrete_function(tf.TensorSpec((2, 3)))
            .structured_outputs
            is None
        )

    def test_of_one_unit_is_refused(self):
        one = tf.constant([[0.3], [-2.0]])
        with pytest.raises(ValueError, match="softmax of one unit is always 1"):
            _graph_of(lambda z: undone("PGD", tf.nn.softmax(z)), one)
        with pytest.warns(UserWarning, match="has size 1"):
            outputs = keras.ops.softmax(one)
        with pytest.raises(ValueError, match="softmax of one unit is always 1"):
            undone("PGD", outputs)


class TestSigmoid:
    @pytest.mark.parametrize("eager", [False, True])
    def test_one_logit_becomes_two(self, eager):
        z = tf.constant([[3.0], [-0.5], [90.0]])

        def undo(z):
            return undone("PGD", keras.ops.sigmoid(z))

        logits = undo(z) if eager else tf.function(undo)(z)
        np.testing.assert_array_equal(logits, [[0.0, 3.0], [0.0, -0.5], [0.0, 90.0]])

    def test_an_axis_that_was_added_is_no_matter(self):
        z = tf.constant([3.0, -0.5])
        undo = tf.function(lambda z: undone("PGD", tf.expand_dims(tf.nn.sigmoid(z), 1)))
        np.testing.assert_array_equal(undo(z), [[0.0, 3.0], [0.0, -0.5]])

    @pytest.mark.parametrize("eager", [False, True])
    def test_several_labels_are_refused(self, eager):
        def undo(z):
            return undone("PGD", keras.ops.sigmoid(z))

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
    assert _graph_of(lambda z: is_affine(function(z))) == affine


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
    np.testing.assert_array_equal(two_classes(tf.constant([[2.0]])), [[0.0, 2.0]])
    np.testing.assert_array_equal(two_classes(tf.constant(_Z)), _Z)


def test_logits_spec():
    for shape, expected in (((None, 1), (None, 2)), ((4, 3), (4, 3))):
        for outputs in (keras.KerasTensor(shape), {"a": keras.KerasTensor(shape)}):
            spec = logits_spec(outputs)
            assert (spec.shape, spec.dtype) == (expected, "float32")

"""One test per name, to show which ones a new Keras release changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import keras_private
from keras_advdef.core.keras_private import own_policy, thread_policies
from tests.support.threads import in_other_thread


def _model(*layers):
    return keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])


def test_every_name_has_a_test():
    tests = {name.removeprefix("test_") for name in globals()}
    assert set(keras_private.__all__) <= tests


def test_BaseImagePreprocessingLayer():
    kind = keras_private.BaseImagePreprocessingLayer
    assert issubclass(keras.layers.RandomFlip, kind)
    assert issubclass(keras.layers.RandomContrast, kind)
    assert not issubclass(keras.layers.Rescaling, kind)


def test_consumers():
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(1)
    outputs = keras.layers.Dropout(0.5)(dense(inputs), training=False)
    model = keras.Model(inputs, keras.layers.Add()([outputs, outputs]))
    # In another model the layer takes other tensors.
    keras.Model(inputs, dense(keras.layers.ReLU()(inputs)))
    ((layer, (tensor,), _),) = keras_private.consumers(model, model.inputs[0])
    assert layer is dense
    ((_, (tensor,), arguments),) = keras_private.consumers(model, tensor)
    assert tensor is outputs
    assert arguments == {"training": False}
    ((layer, _, _),) = keras_private.consumers(model, tensor)
    assert isinstance(layer, keras.layers.Add)


def test_recorded_moments():
    layers = [keras.layers.BatchNormalization() for _ in range(2)]
    model = keras.Sequential([keras.Input((1,)), *layers])
    rows = np.array([[1.0], [3.0]])
    with keras_private.recorded_moments(layers) as found:
        model(rows, training=True)
        model(2.0 * rows, training=True)
        model(rows, training=False)
    assert [[float(each[0]) for each in pair] for pair in found[0]] == [[2, 1], [4, 4]]
    assert len(found[1]) == 2
    model(rows, training=True)
    assert len(found[0]) == 2
    assert not any("_moments" in vars(layer) for layer in layers)


def test_flat_layers():
    inner, dense = _model(), keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((2,)), inner, dense])
    flat = keras_private.flat_layers(model)
    assert flat[0] is model
    assert {id(layer) for layer in (inner, dense, inner.layers[-1])} <= set(
        map(id, flat)
    )


def test_has_graph():
    class Subclass(keras.Model):
        def call(self, inputs):
            return inputs

    class Renamed(keras.Sequential):
        """A subclass that does not override `call`."""

    class Overridden(keras.Sequential):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs) * 2

    built = _model()
    assert keras_private.has_graph(built)
    assert keras_private.has_graph(keras.Model(built.inputs, built.outputs))
    assert keras_private.has_graph(Renamed([keras.Input((2,)), keras.layers.Dense(1)]))
    assert not keras_private.has_graph(keras.Sequential([keras.layers.Dense(1)]))
    assert not keras_private.has_graph(
        Overridden([keras.Input((2,)), keras.layers.Dense(1)])
    )
    assert not keras_private.has_graph(Subclass())
    assert not keras_private.has_graph(keras.layers.Dense(1))
    assert not keras_private.has_graph(len)


def test_inbound_tensors():
    one, other = keras.Input((2,)), keras.Input((3,))
    both = keras.layers.Concatenate()([one, other])
    inbound = keras_private.inbound_tensors(both)
    assert inbound[0] is one
    assert inbound[1] is other
    # A shared layer has one node per call.
    shared = keras.layers.Dense(2)
    first, second = shared(one), shared(keras.layers.Dense(2)(one))
    assert keras_private.inbound_tensors(first)[0] is one
    assert keras_private.inbound_tensors(second)[0] is not one
    assert keras_private.inbound_tensors(one) == []


def test_preserve_losses():
    class AddsLoss(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.sum(inputs))
            return inputs

    model = _model(AddsLoss())
    model(np.full((1, 2), 2.0))
    assert [loss.numpy() for loss in model.losses] == [4.0]
    with keras_private.preserve_losses(model):
        model(np.full((1, 2), 3.0))
        assert [loss.numpy() for loss in model.losses] == [6.0]
    assert [loss.numpy() for loss in model.losses] == [4.0]


def test_in_stateless_scope():
    assert not keras_private.in_stateless_scope()
    with keras.StatelessScope():
        assert keras_private.in_stateless_scope()


def test_make_default_seed():
    seeds = []
    for start in (1, 1, 2):
        keras.utils.set_random_seed(start)
        seeds.append(keras_private.make_default_seed())
    assert seeds[0] == seeds[1] != seeds[2]
    assert isinstance(seeds[0], int)


def test_producer():
    inputs = keras.Input((2,))
    dense = keras.layers.Dense(1)
    assert keras_private.producer(dense(inputs)) is dense
    assert type(keras_private.producer(keras.ops.softmax(inputs))).__name__ == "Softmax"


def test_seed_state_variables():
    inner = _model(keras.layers.Dropout(0.5))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.1), inner])
    states = keras_private.seed_state_variables(model)
    assert {state.path for state in states} == {
        layer.seed_generator.state.path for layer in (model.layers[0], inner.layers[0])
    }
    assert [tuple(state.shape) for state in states] == [(2,), (2,)]
    model(np.zeros((1, 2)), training=True)
    assert [state.numpy()[1] for state in states] == [1, 1]


def test_inner_layers():
    dense = keras.layers.Dense(1)
    wrapped = keras.layers.TimeDistributed(dense)
    assert keras_private.inner_layers(wrapped) == [dense]
    assert keras_private.inner_layers(dense) == []
    assert keras_private.inner_layers(keras_private.RELU_OPERATIONS[0]()) == []


def test_AdditionOperation():
    first, other = keras.Input((3,)), keras.Input((3,))
    for total in (first + other, keras.ops.add(first, other)):
        operation = keras_private.producer(total)
        assert isinstance(operation, keras_private.AdditionOperation)
    layer = keras_private.producer(keras.layers.Add()([first, other]))
    assert not isinstance(layer, keras_private.AdditionOperation)


def test_RELU_OPERATIONS():
    inputs = keras.Input((3,))
    for operation in (keras.ops.relu, keras.ops.relu6):
        made = keras_private.producer(operation(inputs))
        assert isinstance(made, keras_private.RELU_OPERATIONS)


def test_ARITHMETIC_OPERATIONS():
    x = keras.Input((3,))
    made = {"add": x + 1, "subtract": 1 - x, "multiply": 2 * x, "divide": x / 2}
    for name, tensor in made.items():
        kind = type(keras_private.producer(tensor))
        assert keras_private.ARITHMETIC_OPERATIONS[kind] == name
    kind = type(keras_private.producer(keras.ops.divide(x, 2)))
    assert keras_private.ARITHMETIC_OPERATIONS[kind] == "divide"


def test_HEAD_OPERATIONS():
    inputs = keras.Input((3,))
    for name in ("softmax", "log_softmax", "sigmoid"):
        made = keras_private.producer(getattr(keras.ops, name)(inputs))
        function = keras_private.HEAD_OPERATIONS[type(made)]
        assert function is getattr(keras.activations, name)


def test_call_arguments():
    inputs = keras.Input((3,))
    first, other = keras_private.call_arguments(1.0 - inputs)
    assert first == 1.0
    assert other is inputs


def test_output_index():
    inputs = keras.Input((4,))
    halves = keras.ops.split(inputs, 2, axis=1)
    assert [keras_private.output_index(each) for each in halves] == [0, 1]


def test_twin_layer():
    layer = keras.layers.Conv2D(2, 3, activation="relu", name="one")
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, layer(inputs))
    twin = keras_private.twin_layer(layer, activation=keras.activations.linear)
    other = keras.Model(inputs, twin(inputs))
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype("float32")
    before = model.predict(images, verbose=0)
    linear = other.predict(images, verbose=0)
    np.testing.assert_array_equal(before, linear.clip(min=0.0))
    assert linear.min() < 0.0
    # Trained under either name, it is one kernel; the first keeps its activation.
    twin.kernel.assign(2.0 * twin.kernel)
    np.testing.assert_allclose(
        model.predict(images, verbose=0), 2.0 * before, rtol=1e-6
    )
    assert other.get_layer("one").get_config()["activation"] == "linear"
    assert layer.activation is keras.activations.relu


def test_ReluFunction():
    inputs = keras.Input((3,))
    step = keras_private.producer(keras.activations.relu(inputs, negative_slope=0.5))
    assert isinstance(step, keras_private.ReluFunction)
    assert step.negative_slope == 0.5
    assert step.threshold == 0.0


class _Told(keras.layers.Layer):
    """Records the format it is traced for."""

    def call(self, inputs):
        self.seen = keras_private.conversion_format()
        return inputs


@pytest.mark.parametrize(
    ("format", "file"), [("tf_saved_model", "a"), ("litert", "a.tflite")]
)
def test_conversion_format(format, file, tmp_path):
    layer = _Told()
    model = _model(layer)
    model(np.zeros((1, 2)))
    assert layer.seen is None
    model.export(tmp_path / file, format=format, verbose=False)
    assert layer.seen == (None if format == "tf_saved_model" else format)


@pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")
def test_conversion_format_of_onnx(tmp_path):
    tf2onnx = pytest.importorskip("tf2onnx", reason="the extra `onnx` is missing")
    layer = _Told()
    model = _model(layer)
    model(np.zeros((1, 2)))
    model.export(tmp_path / "a.onnx", format="onnx", verbose=False)
    assert layer.seen == "onnx"
    tf2onnx.convert.from_function(tf.function(model), [tf.TensorSpec((None, 2))])
    assert layer.seen == "onnx"


def test_get_input_signature():
    (spec,) = keras_private.get_input_signature(_model())
    assert (spec.shape, spec.dtype) == ((None, 2), "float32")
    inputs = keras.Input((2,))
    (specs,) = keras_private.get_input_signature(keras.Model([inputs], inputs))
    assert [spec.shape for spec in specs] == [(None, 2)]


def test_FloatFunctional():
    inputs = keras.Input((2,), dtype="uint8")
    outputs = keras.layers.Rescaling(0.5)(inputs)
    images = np.array([[0.5, 3.0]], "float32")
    model = keras.Model(inputs, outputs)
    floats = keras_private.FloatFunctional(inputs, outputs)
    np.testing.assert_array_equal(model(images), [[0.0, 1.5]])
    np.testing.assert_array_equal(floats(images), [[0.25, 1.5]])
    assert keras_private.has_graph(floats)


def test_without_call_info():
    class Refuses(keras.layers.Layer):
        def call(self, inputs):
            raise keras_private.without_call_info(ValueError("One sentence."))

        def compute_output_shape(self, input_shape):
            return input_shape

    for call in (Refuses(), keras.Sequential([Refuses()])):
        with pytest.raises(ValueError, match=r"^One sentence\.$"):
            call(np.zeros((1, 2)))


class TestPoliciesOfThread:
    def test_only_this_thread_sees_them(self):
        layer, other = keras.layers.Dense(1), keras.layers.Dense(1)
        own = layer.dtype_policy

        def names():
            return layer.dtype_policy.name, layer.compute_dtype, layer.variable_dtype

        with thread_policies([(layer, "mixed_bfloat16")]):
            assert names() == ("mixed_bfloat16", "bfloat16", "float32")
            assert in_other_thread(names) == ("float32", "float32", "float32")
            assert other.compute_dtype == "float32"
            assert own_policy(layer) is own
        assert layer.dtype_policy is own

    def test_one_within_another(self):
        layer, other = keras.layers.Dense(1), keras.layers.Dense(1)
        with thread_policies([(layer, "mixed_bfloat16")]):
            with thread_policies([(layer, "float32"), (other, "mixed_float16")]):
                assert layer.compute_dtype == "float32"
                assert other.compute_dtype == "float16"
            assert layer.compute_dtype == "bfloat16"
            assert other.compute_dtype == "float32"

    def test_an_error_ends_them(self):
        layer = keras.layers.Dense(1)
        with pytest.raises(KeyError), thread_policies([(layer, "mixed_bfloat16")]):
            raise KeyError
        assert layer.compute_dtype == "float32"

    def test_a_policy_set_meanwhile_is_the_layers_own(self):
        layer = keras.layers.Dense(1)
        with thread_policies([(layer, "mixed_bfloat16")]):
            layer.dtype_policy = "mixed_float16"
            assert layer.compute_dtype == "bfloat16"
        assert layer.compute_dtype == "float16"


def test_half_made_layers_have_none():
    layer = object.__new__(keras.layers.Dense)
    with pytest.raises(AttributeError, match="_dtype_policy"):
        layer._dtype_policy  # noqa: B018


def test_learning_normalizations():
    frozen = keras.Sequential([keras.layers.BatchNormalization()])
    frozen.trainable = False
    learning = keras.layers.BatchNormalization()
    nested = keras.Sequential([keras.layers.Dense(2), learning])
    model = keras.Sequential([keras.Input((2,)), frozen, nested])
    assert keras_private.learning_normalizations(model) == [learning]

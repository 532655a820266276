import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.logits import LogitsFunction, LogitsModel
from keras_advdef.core.precision import (
    PRECISIONS,
    bfloat16_error,
    check_bfloat16,
    head_layers,
    in_bfloat16,
)
from keras_advdef.layers import BitDepthReduction
from tests.support.nets import busy_net, small_net, weights_of
from tests.support.threads import called_by_threads, in_other_thread

_SHAPE = (8, 8, 1)


def _sequential(*layers):
    return keras.Sequential([keras.Input(_SHAPE), *layers])


def _flat_dense(**kwargs):
    return [keras.layers.Flatten(), keras.layers.Dense(3, **kwargs)]


class Residual(keras.layers.Layer):
    """A composite that adds its weighted input to the output of a sublayer."""

    def __init__(self):
        super().__init__()
        self.convolution = keras.layers.Conv2D(4, 3, padding="same")

    def build(self, shape):
        self.convolution.build(shape)
        self.scale = self.add_weight(shape=(1,), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale + self.convolution(inputs)


class Stubborn(Residual):
    """A composite that insists on float32."""

    def call(self, inputs):
        return self.convolution(inputs) + tf.ones((), tf.float32)


class Traced(keras.layers.Layer):
    @tf.function
    def call(self, inputs):
        return inputs * 2


class TracedLogits(LogitsModel):
    @tf.function
    def logits(self, images, training=False):
        del training
        return tf.reshape(images, (-1, 64))


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.front = BitDepthReduction(3)
        self.convolution = keras.layers.Conv2D(4, 3, padding="same")
        self.block = Residual()
        self.flat = keras.layers.Flatten()
        self.head = keras.layers.Dense(3)

    def call(self, images):
        hidden = self.convolution(self.front(images))
        return self.head(self.flat(self.block(hidden) + hidden))


def _branches():
    inputs = keras.Input(_SHAPE)
    x = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Add()([x, keras.layers.Conv2D(8, 1)(x)]) + x
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def _attention():
    inputs = keras.Input(_SHAPE)
    x = keras.layers.Reshape((16, 4))(inputs)
    x = keras.layers.MultiHeadAttention(2, 4)(x, x) + x
    x = keras.layers.Flatten()(keras.layers.LayerNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def _mobile_net(head_dtype=None):
    body = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), include_top=False, alpha=0.35
    )
    return _sequential(
        keras.layers.UpSampling2D(4),
        keras.layers.Conv2D(3, 1),
        body,
        keras.layers.GlobalAveragePooling2D(dtype=head_dtype),
        keras.layers.Dense(3, dtype=head_dtype),
    )


def _mixed_float16():
    half = {"dtype": "mixed_float16"}
    layers = [
        keras.layers.Conv2D(8, 3, **half),
        keras.layers.ReLU(**half),
        keras.layers.BatchNormalization(**half),
        keras.layers.Flatten(**half),
        keras.layers.Dense(3, dtype="float32"),
    ]
    model = keras.Sequential([keras.Input(_SHAPE), *layers])
    model.dtype_policy = "mixed_float16"
    return model


_MODELS = {
    "small": small_net,
    "softmax head": lambda: small_net(head="softmax"),
    "transform": lambda: small_net(front=[BitDepthReduction(3)]),
    "rescaling": lambda: small_net(front=[keras.layers.Rescaling(2.0, -1.0)]),
    "normalization": lambda: small_net(
        front=[keras.layers.Normalization(mean=[0.5], variance=[0.1])]
    ),
    "branches": _branches,
    "subclass": Subclass,
    "composite": lambda: _sequential(
        keras.layers.Conv2D(4, 3), Residual(), *_flat_dense()
    ),
    "attention": _attention,
    "recurrent": lambda: _sequential(
        keras.layers.Reshape((8, 8)), keras.layers.LSTM(5), keras.layers.Dense(3)
    ),
    "mixed float16": _mixed_float16,
}


def _made(kind, images):
    model = _MODELS[kind]()
    model(images)
    return model


def _input_gradient(function):
    target = tf.constant([1.0, -2.0, 0.5])

    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_sum(tf.square(function(images) - target))
        return tape.gradient(loss, images)

    return gradient


def _cosine(one, other):
    one, other = np.ravel(one), np.ravel(other)
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def _policies(model):
    return [layer.dtype_policy for layer in flat_layers(model)]


def _assert_same(policies, model):
    for before, after in zip(policies, _policies(model), strict=True):
        assert before is after


class TestInputGradients:
    @pytest.mark.parametrize("kind", _MODELS)
    def test_close_in_every_mode(self, kind, images, in_every_mode):
        images = tf.constant(images)
        model = _made(kind, images)
        policies, weights = _policies(model), weights_of(model)
        variables = list(model.variables)
        function = LogitsFunction(model, precision="bfloat16")
        exact = _input_gradient(function.full_precision)(images).numpy()
        for rough in in_every_mode(_input_gradient(function), images):
            assert np.isfinite(rough).all()
            assert rough.dtype == tf.float32
            assert _cosine(rough, exact) > 0.97
            # Something was rounded.
            assert np.abs(rough - exact).max() > 0
        _assert_same(policies, model)
        for one, other in zip(model.variables, variables, strict=True):
            assert one is other
        for one, other in zip(weights_of(model), weights, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_nested_mobile_net(self, images):
        images = tf.constant(images)
        model = _mobile_net()
        function = LogitsFunction(model, precision="bfloat16")
        gradient = tf.function(_input_gradient(function))(images)
        exact = tf.function(_input_gradient(function.full_precision))(images)
        # An untrained net of 53 layers loses much to rounding, as it does in Keras's
        # own mixed precision.
        assert _cosine(gradient, exact) > 0.9
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            native = _mobile_net(head_dtype="float32")
        finally:
            keras.config.set_dtype_policy("float32")
        native.set_weights(model.get_weights())
        expected = tf.function(_input_gradient(LogitsFunction(native)))(images)
        assert _cosine(gradient, expected) > 0.999
        body = model.layers[2]
        with in_bfloat16(model):
            assert body.get_layer("Conv1").compute_dtype == "bfloat16"
            assert body.compute_dtype == "float32"

    def test_statistics_and_losses_stay(self, images):
        model = busy_net()
        model(images)
        before, losses = weights_of(model), [float(loss) for loss in model.losses]
        function = LogitsFunction(model, training=True, precision="bfloat16")
        tf.function(function)(images)
        for one, other in zip(weights_of(model), before, strict=True):
            np.testing.assert_array_equal(one, other)
        assert [float(loss) for loss in model.losses] == losses


class TestPolicies:
    def test_names(self):
        assert PRECISIONS == ("float32", "bfloat16")

    def test_restored_after_an_exception(self):
        model = _branches()
        policies = _policies(model)

        def fail():
            with in_bfloat16(model):
                assert model.layers[1].compute_dtype == "bfloat16"
                raise KeyError("stop")

        with pytest.raises(KeyError, match="stop"):
            fail()
        _assert_same(policies, model)

    def test_nested_contexts(self):
        model = small_net()
        policies = _policies(model)
        with in_bfloat16(model):
            with in_bfloat16(model):
                pass
            assert model.layers[0].compute_dtype == "bfloat16"
        _assert_same(policies, model)

    def test_an_inner_context_goes_by_the_models_own_policies(self):
        model = _mixed_float16()
        head = model.layers[-1]
        with in_bfloat16(model), in_bfloat16(model, keep=[model.layers[0]]):
            assert model.layers[0].compute_dtype == "float32"
            assert head.compute_dtype == "float32"

    def test_what_stays(self):
        transform, head = BitDepthReduction(3), keras.layers.Dense(3)
        rescaling = keras.layers.Rescaling(2.0)
        inner = _sequential(transform, keras.layers.Conv2D(4, 3))
        model = _sequential(rescaling, inner, Residual(), keras.layers.Flatten(), head)
        with in_bfloat16(model, keep=[head]):
            stays = [model, rescaling, inner, transform, head]
            assert {layer.compute_dtype for layer in stays} == {"float32"}
            assert inner.layers[-1].compute_dtype == "bfloat16"
            assert model.layers[2].compute_dtype == "bfloat16"
            assert model.layers[2].convolution.compute_dtype == "bfloat16"
            assert model.layers[2].variable_dtype == "float32"

    def test_pinned_in_a_mixed_model(self):
        model = _mixed_float16()
        with in_bfloat16(model):
            # The model itself only passes images on.
            assert model.compute_dtype == "float32"
            found = [layer.compute_dtype for layer in model.layers]
            assert found == ["bfloat16"] * 4 + ["float32"]

    def test_kept_float16_layers_run_in_float32(self):
        model = _mixed_float16()
        with in_bfloat16(model, keep=[model.layers[0]]):
            assert model.layers[0].compute_dtype == "float32"

    @pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
    def test_bfloat16_stays(self, policy, images):
        model = _sequential(*_flat_dense(dtype=policy))
        with in_bfloat16(model):
            assert model.layers[-1].dtype_policy.name == policy
        function = LogitsFunction(model, precision="bfloat16")
        assert function(images).dtype == tf.float32


class TestOtherThreads:
    def test_see_nothing_while_one_computes_in_bfloat16(self, images, tmp_path):
        images = tf.constant(images)
        model = small_net(front=[keras.layers.BatchNormalization()])
        expected, policies = model(images), _policies(model)
        exact = _input_gradient(LogitsFunction(model))(images)

        def look():
            _assert_same(policies, model)
            model.save(tmp_path / "model.keras")
            gradient = _input_gradient(LogitsFunction(model))
            # Traces that a thread makes now are kept.
            model.make_predict_function(force=True)
            called = [model(images), model.predict(images, verbose=0)]
            return called, [gradient(images), tf.function(gradient)(images)]

        with in_bfloat16(model):
            called, gradients = in_other_thread(look)
            assert model.layers[1].compute_dtype == "bfloat16"
        for outputs in (*called, model.predict(images, verbose=0)):
            np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-6)
        for gradient in gradients:
            np.testing.assert_allclose(gradient, exact, rtol=0, atol=1e-6)
        with zipfile.ZipFile(tmp_path / "model.keras") as file:
            assert b"bfloat16" not in file.read("config.json")

    def test_compute_in_bfloat16_at_the_same_time(self, images):
        images = tf.constant(images)
        model = small_net()
        function = LogitsFunction(model, precision="bfloat16")
        expected = [function.full_precision(images).numpy(), function(images).numpy()]
        assert np.abs(expected[0] - expected[1]).max() > 1e-5
        policies = _policies(model)

        def both():
            return function.full_precision(images).numpy(), function(images).numpy()

        for found in called_by_threads(both, 32):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        _assert_same(policies, model)


class TestExactPixels:
    @pytest.mark.parametrize(
        "front", [[], [keras.layers.Rescaling(1 / 255)]], ids=["first", "second"]
    )
    def test_transform_sees_them(self, front, images):
        seen = []

        class Spy(BitDepthReduction):
            def transform(self, images):
                seen.append((images, super().transform(images)))
                return seen[-1][1]

        images = images * 255 if front else images
        model = small_net(front=[*front, Spy(6)])
        function = LogitsFunction(model, precision="bfloat16")
        function(images)
        function.full_precision(images)
        for rough, exact in zip(seen[-2], seen[-1], strict=True):
            assert rough.dtype == tf.float32
            np.testing.assert_array_equal(rough, exact)


class TestHead:
    def test_of_each_graph(self):
        head = keras.layers.Dense(3, activation="softmax")
        inner = _sequential(keras.layers.Flatten(), head)
        outer = _sequential(keras.layers.Conv2D(1, 1), inner)
        activation = keras.layers.Activation("linear")
        longer = keras.Sequential([keras.Input(_SHAPE), outer, activation])
        assert head_layers(inner) == [head]
        assert head_layers(outer) == [head]
        assert head_layers(longer) == [activation, head]

    def test_operations_are_passed(self):
        inputs = keras.Input((4,))
        heads = [keras.layers.Dense(3), keras.layers.Dense(3)]
        hidden = keras.layers.Dense(5)(inputs)
        model = keras.Model(inputs, (heads[0](hidden) + heads[1](hidden)) * 2.0)
        assert head_layers(model) == heads

    def test_none(self):
        inputs = keras.Input((4,))
        assert head_layers(Subclass()) == []
        assert head_layers(len) == []
        assert head_layers(_sequential(keras.layers.Flatten(), Traced()))
        identity = head_layers(keras.Model(inputs, inputs))
        assert all(not layer.weights for layer in identity)

    @pytest.mark.parametrize("head", [None, "softmax"])
    def test_logits_are_not_rounded(self, head, images):
        model = small_net(head=head)
        logits = LogitsFunction(model, precision="bfloat16")(images)
        rounded = tf.cast(tf.cast(logits, tf.bfloat16), tf.float32)
        assert np.abs(logits - rounded).max() > 0

    def test_float16_head(self, images):
        # Only the head computes, so the result equals that of float32.
        flat = keras.layers.Flatten(autocast=False)
        head = keras.layers.Dense(3, dtype="mixed_float16", activation="softmax")
        model = _sequential(flat, head)
        logits = LogitsFunction(model, precision="bfloat16")(images)
        exact = images.reshape(6, -1) @ head.kernel.numpy()
        np.testing.assert_allclose(logits, exact, atol=1e-6)


def _float64():
    return _sequential(*_flat_dense(dtype="float64"))


def _quantized():
    model = _sequential(*_flat_dense())
    model.layers[-1].quantize("int8")
    return model


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "what"),
        [
            (lambda: len, "a model that is not a Keras layer"),
            (_float64, r"`\w+`, which has the dtype policy float64"),
            (
                lambda: _sequential(*_flat_dense(dtype="float16")),
                r"`\w+`, which has the dtype policy float16",
            ),
            (_quantized, r"`\w+`, which has the dtype policy int8_from_float32"),
            (
                lambda: _sequential(
                    *_flat_dense(dtype=keras.dtype_policies.DTypePolicyMap())
                ),
                r"`\w+`, which has the dtype policy \w+",
            ),
            (
                lambda: _sequential(Traced(), *_flat_dense()),
                r"`\w+`, whose `call` is a `tf.function`",
            ),
            (TracedLogits, r"`\w+`, whose `logits` is a `tf.function`"),
        ],
    )
    def test_before_any_call(self, make, what):
        text = (
            f'^`LogitsFunction` expects `precision` to be "float32" for {what}. '
            "Received: precision='bfloat16'. Pass precision=\"float32\".$"
        )
        model = make()
        with pytest.raises(ValueError, match=text):
            check_bfloat16(model)
        with pytest.raises(ValueError, match=text):
            LogitsFunction(model, precision="bfloat16")
        if isinstance(model, keras.layers.Layer):
            policies = _policies(model)
            with pytest.raises(ValueError, match=text), in_bfloat16(model):
                pass
            _assert_same(policies, model)

    def test_saved_model(self, tmp_path):
        small_net().export(tmp_path / "net", verbose=False)
        loaded = tf.saved_model.load(str(tmp_path / "net")).serve
        with pytest.raises(ValueError, match="a model that is not a Keras layer"):
            LogitsFunction(loaded, precision="bfloat16")

    @pytest.mark.parametrize("traced", [False, True])
    def test_own_code_that_fails(self, traced, images):
        model = _sequential(Stubborn(), *_flat_dense())
        policies = _policies(model)
        function = LogitsFunction(model, precision="bfloat16")
        text = (
            f'`LogitsFunction` expects `precision` to be "float32" for `{model.name}`, '
            "whose own code fails in bfloat16. Received: precision='bfloat16'. "
            'Pass precision="float32".'
        )
        call = tf.function(function) if traced else function
        with pytest.raises(ValueError, match=text):
            call(tf.constant(images))
        _assert_same(policies, model)
        function.full_precision(images)

    def test_what_fails_in_float32_too_is_told_as_it_is(self):
        function = LogitsFunction(small_net(), precision="bfloat16")
        with pytest.raises(ValueError, match="incompatible"):
            function(tf.zeros((2, 8, 8, 7)))

    def test_message(self):
        assert str(bfloat16_error("this")).startswith("`LogitsFunction` expects")

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.logits import (
    LogitsFunction,
    LogitsModel,
    classifier_logits,
    watch_logits,
)
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.value_range import ValueRange
from keras_advdef.layers import BitDepthReduction, RandomNoise
from keras_advdef.models import AveragingEnsemble
from keras_advdef.training import AdversarialTrainingModel
from tests.support.model_forms import FORMS
from tests.support.nets import small_net
from tests.support.razors import RANGES, razor

_SHAPE = (4, 4, 1)


def _hidden():
    return [keras.layers.Flatten(), keras.layers.Dense(5, activation="relu")]


def _sequential(*head):
    return keras.Sequential([keras.Input(_SHAPE), *_hidden(), *head])


def _functional(head):
    inputs = keras.Input(_SHAPE)
    outputs = keras.layers.Flatten()(inputs)
    # Two branches that meet again.
    one = keras.layers.Dense(5, activation="relu")(outputs)
    other = keras.layers.Dense(5, activation="tanh")(outputs)
    outputs = keras.layers.Dense(3)(keras.layers.Concatenate()([one, other]))
    return keras.Model(inputs, head(outputs))


def _nested(inner):
    inputs = keras.Input(_SHAPE)
    return keras.Model(inputs, inner(keras.layers.Rescaling(0.5)(inputs)))


class Opaque(keras.Model):
    """A model without a visible structure."""

    def __init__(self, activation=None):
        super().__init__()
        self.flat = keras.layers.Flatten()
        self.head = keras.layers.Dense(3, activation=activation)

    def call(self, inputs):
        return self.head(self.flat(inputs))


def _my_softmax(inputs):
    return tf.nn.softmax(inputs)


_WITH_SOFTMAX = {
    "dense": lambda: _sequential(keras.layers.Dense(3, activation="softmax")),
    "dense with tf.nn.softmax": lambda: _sequential(
        keras.layers.Dense(3, activation=tf.nn.softmax)
    ),
    "dense with keras.ops.softmax": lambda: _sequential(
        keras.layers.Dense(3, activation=keras.ops.softmax)
    ),
    "activation": lambda: _sequential(
        keras.layers.Dense(3), keras.layers.Activation("softmax")
    ),
    "layer": lambda: _sequential(keras.layers.Dense(3), keras.layers.Softmax()),
    "convolution": lambda: keras.Sequential(
        [
            keras.Input(_SHAPE),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Reshape((1, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    ),
    "operation": lambda: _functional(keras.ops.softmax),
    "functional layer": lambda: _functional(keras.layers.Softmax()),
    "functional dense": lambda: _functional(
        keras.layers.Dense(4, activation="softmax")
    ),
    "nested sequential": lambda: _nested(
        _sequential(keras.layers.Dense(3, activation="softmax"))
    ),
    "nested functional": lambda: _nested(_functional(keras.ops.softmax)),
    "nested twice": lambda: _nested(_nested(_functional(keras.layers.Softmax()))),
    "sequential in sequential": lambda: keras.Sequential(
        [keras.Input(_SHAPE), _sequential(keras.layers.Dense(3, activation="softmax"))]
    ),
}


@pytest.fixture
def images():
    generator = np.random.default_rng(1)
    return tf.constant(generator.uniform(size=(6, *_SHAPE)), tf.float32)


class TestSoftmaxHeads:
    @pytest.mark.parametrize("kind", _WITH_SOFTMAX)
    def test_is_undone_and_left_in_place(self, kind, images):
        model = _WITH_SOFTMAX[kind]()
        before = model(images).numpy()
        function = LogitsFunction(model)
        logits = function(images).numpy()

        np.testing.assert_allclose(tf.nn.softmax(logits), before, rtol=1e-5)
        # Logits are defined up to a constant, so differences are compared.
        np.testing.assert_allclose(
            logits - logits[:, :1],
            np.log(before) - np.log(before[:, :1]),
            rtol=1e-3,
            atol=1e-5,
        )
        assert np.abs(logits.sum(axis=-1) - 1).max() > 1e-3
        np.testing.assert_array_equal(model(images), before)

    @pytest.mark.parametrize("kind", _WITH_SOFTMAX)
    def test_weights_are_shared(self, kind, images):
        model = _WITH_SOFTMAX[kind]()
        function = LogitsFunction(model)
        before, weights = function(images).numpy(), len(model.weights)
        for weight in model.weights:
            weight.assign(weight * 2 + 0.1)
        probabilities = tf.nn.softmax(function(images))
        np.testing.assert_allclose(probabilities, model(images), rtol=1e-5)
        assert np.abs(function(images) - before).max() > 1e-3
        assert len(model.weights) == weights

    def test_true_logits(self, images):
        head = keras.layers.Dense(3, activation="softmax")
        model = _sequential(head)
        hidden = keras.Sequential(model.layers[:-1])(images)
        expected = hidden.numpy() @ head.kernel.numpy() + head.bias.numpy()
        np.testing.assert_allclose(LogitsFunction(model)(images), expected, atol=1e-6)
        assert head.activation is keras.activations.softmax

    @pytest.mark.parametrize(
        "make",
        [
            lambda: _sequential(keras.layers.Dense(3)),
            lambda: _functional(lambda outputs: outputs * 2.0),
            lambda: _nested(_sequential(keras.layers.Dense(3))),
            Opaque,
        ],
    )
    def test_other_models_stay_as_they_are(self, make, images):
        model = make()
        np.testing.assert_allclose(
            LogitsFunction(model)(images), model(images), rtol=1e-6
        )

    def test_a_model_without_layers(self):
        inputs = keras.Input((3,))
        logits = LogitsFunction(keras.Model(inputs, inputs))
        assert logits(tf.ones((2, 3))).numpy().tolist() == [[1.0] * 3] * 2

    def test_a_softmax_inside_stays(self, images):
        model = _functional(
            lambda outputs: keras.layers.Dense(3)(keras.layers.Softmax()(outputs))
        )
        np.testing.assert_array_equal(LogitsFunction(model)(images), model(images))

    def test_large_logits_keep_their_gradients(self, images):
        head = keras.layers.Dense(3, activation="softmax")
        model = keras.Sequential([keras.Input(_SHAPE), keras.layers.Flatten(), head])
        head.kernel.assign(head.kernel * 1e3)
        head.bias.assign([2e3, 0.0, 0.0])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            logits = LogitsFunction(model)(images)
            margin = logits[:, 0] - logits[:, 1]
            saturated = model(images)[:, 0] - model(images)[:, 1]
        assert margin.numpy().min() > 100
        # The margin is linear: its gradient is the difference of two columns.
        expected = (head.kernel[:, 0] - head.kernel[:, 1]).numpy().reshape(_SHAPE)
        np.testing.assert_allclose(
            tape.gradient(margin, images), np.stack([expected] * 6), rtol=1e-5
        )
        assert not np.any(tape.gradient(saturated, images))

    @pytest.mark.parametrize("kind", ["dense", "nested functional"])
    def test_equal_in_every_mode(self, kind, images, in_every_mode):
        function = LogitsFunction(_WITH_SOFTMAX[kind]())
        eager, graph, compiled = in_every_mode(function, images)
        np.testing.assert_allclose(eager, graph, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(eager, compiled, rtol=1e-5, atol=1e-6)


# Heads that cannot be undone, and inputs that would round.
_TOLD = ("softmax_before_pooling", "saved_model", "uint8_input")
# Log probabilities equal logits up to a constant for each image.
_SHIFTED = ("log_probabilities", "saved_model")


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`:UserWarning")
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form_has_the_logits_of_its_bare_twin(form):
    brought, bare = form.make(), form.make(bare=True)
    pixels = ValueRange(*brought.value_range)
    unit = pixels.to_unit(tf.constant(brought.images, tf.float32))
    expected = LogitsFunction(bare.model, value_range=pixels)(unit)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        function = LogitsFunction(brought.model, value_range=pixels)
        # In a graph, then eagerly, then in another graph.
        found = [tf.function(function)(unit), function(unit)]
        found.append(LogitsFunction(brought.model, value_range=pixels)(unit))
    ours = [str(each.message) for each in told if "`" in str(each.message)]
    assert len(ours) == (form.name in _TOLD), ours
    for logits in found:
        assert logits.dtype == tf.float32
        assert logits.shape[1] >= 2
        pair = (logits, expected)
        if form.name in _SHIFTED:
            pair = map(tf.nn.log_softmax, pair)
        np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-5)


class TestRejections:
    @pytest.mark.parametrize("model", [None, "resnet", 3])
    def test_what_cannot_be_called(self, model):
        rule = "`LogitsFunction` expects `model` to be a Keras model or a function"
        with pytest.raises(TypeError, match=rule):
            LogitsFunction(model)

    def test_two_outputs(self):
        inputs = keras.Input((4,))
        outputs = [keras.layers.Dense(3)(inputs), keras.layers.Dense(2)(inputs)]
        with pytest.raises(ValueError, match="to be a classifier with one output"):
            LogitsFunction(keras.Model(inputs, outputs))

    @pytest.mark.parametrize(
        "function",
        [
            lambda images: images[:, 0, 0, 0],
            lambda images: images,
            lambda images: [images[:, :, 0, 0], images[:, 0, :, 0]],
            lambda images: images.numpy()[:, :, 0, 0],
        ],
    )
    def test_output_of_another_shape(self, function, images):
        rule = r"one output of shape \(batch, classes\).* Received.*Pass "
        with pytest.raises(ValueError, match=rule):
            LogitsFunction(function)(images)

    def test_unknown_rank(self):
        function = tf.function(LogitsFunction(lambda images: images))
        with pytest.raises(ValueError, match="Received: model=tensor of unknown rank"):
            function.get_concrete_function(tf.TensorSpec(None, tf.float32))


class AddsLoss(keras.layers.Layer):
    def call(self, inputs):
        self.add_loss(keras.ops.mean(inputs))
        return inputs


class TestNoSideEffects:
    @pytest.mark.parametrize("traced", [False, True])
    def test_training_leaves_no_trace(self, traced, images):
        model = _sequential(
            AddsLoss(),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, activation="softmax"),
        )
        model(images)
        losses = [loss.numpy() for loss in model.losses]
        variables = [variable.numpy() for variable in model.variables]
        # Keras does not list the seed of dropout among the model's variables.
        seeds = [layer.seed_generator for layer in model.layers if "drop" in layer.name]

        function = LogitsFunction(model, training=True)
        call = tf.function(function) if traced else function
        with draw_scope(make_key(3)):
            call(tf.constant(images.numpy() * 2))

        assert [loss.numpy() for loss in model.losses] == losses
        assert len(losses) == 1
        for variable, value in zip(model.variables, variables, strict=True):
            np.testing.assert_array_equal(variable, value)
        assert [seed.state.numpy()[1] for seed in seeds] == [0]

    def test_without_a_scope_neither(self, images):
        model = _sequential(keras.layers.Dropout(0.5), keras.layers.Dense(3))
        state = model.layers[-2].seed_generator.state
        before = state.numpy()
        LogitsFunction(model, training=True)(images)
        np.testing.assert_array_equal(state, before)

    def test_training_reaches_the_layers(self, images):
        model = _sequential(keras.layers.BatchNormalization(), keras.layers.Dense(3))
        plain = LogitsFunction(model)(images).numpy()
        trained = LogitsFunction(model, training=True)(images).numpy()
        assert np.abs(plain - trained).max() > 1e-3


class TestDrawsOfKeras:
    @pytest.mark.parametrize("jit", [None, False, True])
    def test_dropout_follows_the_key(self, images, jit):
        model = _sequential(keras.layers.Dropout(0.5), keras.layers.Dense(3))
        function = LogitsFunction(model, training=True)

        def call(images, key):
            with draw_scope(key):
                return function(images)

        # Keras's own draws differ between XLA and the rest, so each mode is compared
        # with itself.
        call = call if jit is None else tf.function(call, jit_compile=jit)
        one, same, other = (call(images, make_key(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, same)
        assert np.abs(one - other).max() > 1e-3

    def test_two_calls_in_a_scope_differ(self, images):
        model = _sequential(keras.layers.Dropout(0.5), keras.layers.Dense(3))
        function = LogitsFunction(model, training=True)
        with draw_scope(make_key(1)):
            first, second = function(images), function(images)
        assert np.abs(first - second).max() > 1e-3


class TestBuild:
    def test_unbuilt_sequential(self, images):
        model = keras.Sequential(
            [*_hidden(), keras.layers.Dense(3, activation="softmax")]
        )
        function = LogitsFunction(model)
        function.build(_SHAPE)
        assert model.built
        np.testing.assert_allclose(
            tf.nn.softmax(function(images)), model(images), rtol=1e-5
        )

    def test_unbuilt_subclass_inside_a_function(self, images):
        model = Opaque()
        function = LogitsFunction(model)

        @tf.function
        def call(images):
            function.build(_SHAPE)
            return function(images)

        np.testing.assert_allclose(call(images), model(images), rtol=1e-5, atol=1e-6)

    def test_built_models_and_functions_are_left_alone(self):
        model = _sequential(keras.layers.Dense(3))
        weights = [weight.numpy() for weight in model.weights]
        LogitsFunction(model).build(_SHAPE)
        for weight, before in zip(model.weights, weights, strict=True):
            np.testing.assert_array_equal(weight, before)
        LogitsFunction(lambda images: images).build(_SHAPE)


class TestPlainFunctions:
    def test_python_function(self, images):
        function = LogitsFunction(lambda images: 2.0 * images[:, :, 0, 0])
        np.testing.assert_array_equal(function(images), 2.0 * images[:, :, 0, 0])
        assert function.gradient_scale == 1.0

    def test_result_is_float32(self, images):
        function = LogitsFunction(lambda images: tf.cast(images, "float64")[:, :, 0, 0])
        assert function(images).dtype == tf.float32


class TestGradientScale:
    @pytest.mark.parametrize(
        ("policy", "scale"),
        [("float32", 1.0), ("mixed_bfloat16", 1.0), ("mixed_float16", 1024.0)],
    )
    def test_of_each_policy(self, policy, scale, images):
        model = keras.Sequential(
            [
                keras.Input(_SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(3, dtype=policy, activation="softmax"),
            ]
        )
        function = LogitsFunction(model)
        assert function.gradient_scale == scale
        assert function(images).dtype == tf.float32

    def test_none_in_bfloat16(self, images):
        model = _sequential(keras.layers.Dense(3, dtype="mixed_float16"))
        function = LogitsFunction(model, precision="bfloat16")
        assert function.gradient_scale == 1.0
        assert function.full_precision.gradient_scale == 1024.0
        assert function(images).dtype == tf.float32


class TestPrecision:
    def test_float32_is_exact_itself(self):
        for model in (Opaque(), len):
            function = LogitsFunction(model)
            assert function.precision == "float32"
            assert function.full_precision is function

    def test_exact_is_the_model_as_it_is(self, images):
        model = _WITH_SOFTMAX["dense"]()
        function = LogitsFunction(model, training=True, precision="bfloat16")
        assert function.precision == "bfloat16"
        assert function.full_precision.training
        assert function.full_precision.full_precision is function.full_precision
        expected = LogitsFunction(model)(images)
        np.testing.assert_array_equal(function.full_precision(images), expected)
        assert np.abs(function(images) - expected).max() > 0
        np.testing.assert_allclose(function(images), expected, atol=0.05)

    def test_exact_after_build(self, images):
        model = keras.Sequential(
            [*_hidden(), keras.layers.Dense(3, activation="softmax")]
        )
        function = LogitsFunction(model, precision="bfloat16")
        function.build(_SHAPE)
        for one in (function, function.full_precision):
            logits = one(images).numpy()
            assert np.abs(logits.sum(axis=-1) - 1).max() > 1e-3
        exact = tf.nn.softmax(function.full_precision(images))
        np.testing.assert_allclose(exact, model(images), rtol=1e-5)

    @pytest.mark.parametrize("precision", ["float16", None, 16])
    def test_unknown(self, precision):
        rule = "`LogitsFunction` expects `precision` to be .*float32.*bfloat16"
        with pytest.raises(ValueError, match=rule):
            LogitsFunction(Opaque(), precision=precision)

    def test_logits_model(self, images):
        class Asked(LogitsModel):
            def __init__(self):
                super().__init__()
                self.member = Opaque()

            def logits(self, images, training=False):
                return self.member(images, training=training)

        model = Asked()
        model.member(images)
        function = LogitsFunction(model, precision="bfloat16")
        logits = function(images)
        assert logits.dtype == tf.float32
        np.testing.assert_array_equal(
            logits, tf.cast(tf.cast(logits, tf.bfloat16), tf.float32)
        )
        np.testing.assert_allclose(logits, function.full_precision(images), atol=0.05)


class TestIsRandom:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize(
        ("layers", "draws", "draws_in_training"),
        [
            ([], False, False),
            ([BitDepthReduction], False, False),
            ([lambda: RandomNoise(0.1)], True, True),
            ([lambda: _nested(_sequential_noise())], True, True),
            ([lambda: keras.layers.Dropout(0.5)], False, True),
        ],
    )
    def test_each(self, layers, draws, draws_in_training, training, precision):
        made = [layer() for layer in layers]
        model = keras.Sequential(
            [keras.Input(_SHAPE), *made, *_hidden(), keras.layers.Dense(3)]
        )
        function = LogitsFunction(model, training=training, precision=precision)
        assert function.is_random is (draws_in_training if training else draws)
        assert function.full_precision.is_random is function.is_random

    def test_plain_function(self):
        assert LogitsFunction(lambda images: images, training=True).is_random is False


def _sequential_noise():
    return keras.Sequential([keras.Input(_SHAPE), RandomNoise(0.1)])


class Halves(LogitsModel):
    def logits(self, images, training=False):
        del training
        return tf.reshape(images, (-1, 2))

    def call(self, images):
        return tf.nn.softmax(self.logits(images))


class TestLogitsModel:
    def test_is_asked_for_its_logits(self, images):
        function = LogitsFunction(Halves())
        expected = images.numpy().reshape(-1, 2)
        np.testing.assert_array_equal(function(images), expected)

    def test_one_member(self, images):
        members = Halves().member_logits(images)
        assert members.shape == (48, 1, 2)

    def test_members_are_asked_for_in_the_range_of_the_model(self, images):
        function = LogitsFunction(Halves(), value_range=ValueRange(0.0, 255.0))
        expected = 255.0 * images.numpy().reshape(-1, 1, 2)
        np.testing.assert_allclose(function.member_logits(images), expected, rtol=1e-6)

    def test_must_be_written(self, images):
        with pytest.raises(NotImplementedError, match="`LogitsModel` must write `log"):
            LogitsModel().logits(images)


def test_softmax_is_undone(net, images):
    probable = keras.Sequential([net, keras.layers.Softmax()])
    logits = classifier_logits(probable, images)
    np.testing.assert_allclose(logits, net(images), atol=1e-6)


@pytest.mark.parametrize("value_range", RANGES)
def test_pixels_reach_the_model_as_they_are(value_range):
    model, images = razor(value_range)
    function = LogitsFunction(model, value_range=ValueRange(*value_range))
    for run in (function.on_pixels, tf.function(function.on_pixels)):
        assert (run(images).numpy()[:, 1] == -2.0).all()


def test_moving_averages_move_in_training(images):
    norm = keras.layers.BatchNormalization()
    net = keras.Sequential([keras.Input((8, 8, 1)), norm, keras.layers.Flatten()])
    before = np.array(norm.moving_mean)
    classifier_logits(net, images)
    np.testing.assert_array_equal(norm.moving_mean, before)
    classifier_logits(net, images, training=True)
    assert not np.array_equal(norm.moving_mean, before)


def test_compositions_give_their_logits(images):
    ensemble = AveragingEnsemble([small_net(), small_net()])
    logits = classifier_logits(ensemble, images)
    np.testing.assert_allclose(tf.exp(logits), ensemble(images), atol=1e-6)


def test_half_precision_becomes_float32(images):
    half = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(dtype="float16")]
    )
    assert half(images).dtype == "float16"
    assert classifier_logits(half, images).dtype == "float32"


def test_training_models_move_averages_on(images):
    net = keras.Sequential([keras.layers.BatchNormalization(), keras.layers.Flatten()])
    net.build((None, 8, 8, 1))
    before = np.array(net.layers[0].moving_mean)
    classifier_logits(AdversarialTrainingModel(net), images, training=True)
    assert not np.array_equal(net.layers[0].moving_mean, before)


IMAGES = tf.ones((1, 2))
DOUBLE = LogitsFunction(lambda images: 2.0 * images)


def test_only_the_very_tensor_counts():
    with watch_logits(IMAGES) as looks:
        DOUBLE(IMAGES + 0.0)
        assert looks == []
        logits = DOUBLE(IMAGES)
    (look,) = looks
    assert look[0] is DOUBLE
    assert look[1] is logits
    DOUBLE(IMAGES)
    assert len(looks) == 1


def test_the_inner_one_watches_alone():
    other = tf.zeros((1, 2))
    with watch_logits(IMAGES) as outer:
        with watch_logits(other) as inner:
            DOUBLE(IMAGES)
            DOUBLE(other)
        DOUBLE(IMAGES)
    assert len(outer) == len(inner) == 1


def test_logits_of_a_loop_stay_there():
    @tf.function
    def call(images):
        with watch_logits(images) as looks:
            tf.while_loop(
                lambda index, total: index < 2,
                lambda index, total: (index + 1, total + DOUBLE(images)),
                (tf.constant(0), tf.zeros_like(images)),
            )
            count = len(looks)
            DOUBLE(images)
        assert (count, len(looks)) == (0, 1)
        return looks[0][1]

    assert call(IMAGES).numpy().tolist() == [[2.0, 2.0]]

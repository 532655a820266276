"""No image of a box leaves the bounds, whatever layers it goes through."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import Interval
from keras_advdef.core.interval_net import IntervalNet, bent_slopes, cast
from keras_advdef.layers import ConvexCombination
from tests.support.model_forms import FORMS

_LAYERS = keras.layers
_UNIT = 2.0**-24
_RADIUS = 0.3


def _through(*layers):
    return lambda x: keras.Sequential([keras.Input(x.shape[1:]), *layers])(x)


def _residual(x):
    shared = _LAYERS.Conv2D(2, 3, padding="same", activation="relu")
    return _LAYERS.Add()([x, shared(shared(x))])


def _excited(x):
    weights = _LAYERS.GlobalAveragePooling2D(keepdims=True)(x)
    return _LAYERS.Multiply()([x, _LAYERS.Conv2D(2, 1, activation="sigmoid")(weights)])


def _two_outputs(x):
    inputs = keras.Input(x.shape[1:])
    outputs = [_LAYERS.ReLU()(inputs), _LAYERS.Conv2D(2, 1)(inputs)]
    return keras.Model(inputs, outputs)(x)[1]


BODIES = {
    "dense": _through(_LAYERS.Flatten(), _LAYERS.Dense(4, activation="tanh")),
    "einsum": _through(_LAYERS.EinsumDense("abcd,de->abce", (None, None, 3))),
    "conv": _through(_LAYERS.Conv2D(3, 3, strides=2, padding="same")),
    "conv_groups": _through(_LAYERS.Conv2D(4, 3, groups=2, dilation_rate=2)),
    "conv_1d": _through(_LAYERS.Reshape((36, 2)), _LAYERS.Conv1D(3, 5, strides=2)),
    "depthwise": _through(_LAYERS.DepthwiseConv2D(3, depth_multiplier=2)),
    "separable": _through(_LAYERS.SeparableConv2D(3, 3, activation="elu")),
    "batch_normalization": _through(_LAYERS.BatchNormalization()),
    "batch_normalization_of_rows": _through(_LAYERS.BatchNormalization(axis=1)),
    "batch_normalization_bare": _through(
        _LAYERS.BatchNormalization(center=False, scale=False)
    ),
    "rescaling": _through(_LAYERS.Rescaling(-2.0, offset=1.0)),
    "rescaling_channels": _through(_LAYERS.Rescaling([2.0, -1.0], offset=[0.0, 1.0])),
    "normalization": _through(
        _LAYERS.Normalization(mean=[0.1, -0.2], variance=[0.5, 2.0])
    ),
    "normalization_inverse": _through(
        _LAYERS.Normalization(mean=[0.1, -0.2], variance=[0.5, 2.0], invert=True)
    ),
    "relu": _through(_LAYERS.ReLU()),
    "relu_cut": _through(_LAYERS.ReLU(max_value=0.5, negative_slope=0.1)),
    "relu_threshold": _through(_LAYERS.ReLU(threshold=0.2)),
    "leaky_relu": _through(_LAYERS.LeakyReLU(0.3)),
    "elu": _through(_LAYERS.ELU(alpha=0.5)),
    **{
        # Not the last layer, where some would be taken for a head.
        name: _through(_LAYERS.Activation(name), _LAYERS.Rescaling(2.0))
        for name in (
            *("relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "softsign"),
            *("sigmoid", "tanh", "gelu", "silu", "mish", "hard_sigmoid", "exponential"),
        )
    },
    "softmax_inside": _through(_LAYERS.Softmax(), _LAYERS.Rescaling(2.0)),
    "log_softmax_inside": _through(
        _LAYERS.Activation("log_softmax"), _LAYERS.Rescaling(2.0)
    ),
    "max_pooling": _through(_LAYERS.MaxPooling2D(2, strides=1)),
    "average_pooling": _through(_LAYERS.AveragePooling2D(3, padding="same")),
    "global_max": _through(_LAYERS.GlobalMaxPooling2D()),
    "global_average": _through(_LAYERS.GlobalAveragePooling2D()),
    "arranged": _through(
        _LAYERS.ZeroPadding2D(1),
        _LAYERS.Cropping2D(((0, 1), (1, 0))),
        _LAYERS.Permute((2, 1, 3)),
        _LAYERS.Reshape((-1,)),
    ),
    "nothing": _through(
        _LAYERS.Dropout(0.5),
        _LAYERS.GaussianNoise(1.0),
        _LAYERS.RandomFlip(),
        _LAYERS.ReLU(),
    ),
    "residual": _residual,
    "subtract": lambda x: _LAYERS.Subtract()([x, _LAYERS.ReLU()(x)]),
    "average": lambda x: _LAYERS.Average()([x, _LAYERS.ReLU()(x)]),
    "maximum": lambda x: _LAYERS.Maximum()([x, _LAYERS.Conv2D(2, 1)(x)]),
    "minimum": lambda x: _LAYERS.Minimum()([x, _LAYERS.Conv2D(2, 1)(x)]),
    "concatenate": lambda x: _LAYERS.Concatenate(axis=1)([x, _LAYERS.Conv2D(2, 1)(x)]),
    "excited": _excited,
    "convex": lambda x: ConvexCombination()([x, _LAYERS.Conv2D(2, 1)(x)]),
    "constants": lambda x: 1.0 - (3.0 * x - 0.5) / -2.0,
    "operations": lambda x: keras.ops.relu6(keras.ops.relu(x) + 1.0),
    "nested": lambda x: _through(_LAYERS.Conv2D(2, 3), _LAYERS.Softmax())(x) + 1.0,
    "two_outputs": _two_outputs,
}


def _model(body):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, body(inputs))
    draw = np.random.default_rng(0)
    for weight in model.weights:
        is_variance = "variance" in weight.path
        values = draw.normal(0.0, 0.5, weight.shape)
        weight.assign(np.abs(values) + 0.1 if is_variance else values)
    return model


@pytest.mark.parametrize("name", BODIES)
def test_bounds_hold(name):
    model, draw = _model(BODIES[name]), np.random.default_rng(1)
    centre = draw.normal(0.0, 1.0, (2, 6, 6, 2))
    box = Interval(tf.constant(centre - _RADIUS), tf.constant(centre + _RADIUS))
    found = IntervalNet("test", model).boxes(box, unit=_UNIT)[0][-1]
    # Corners, and points anywhere between.
    moves = draw.uniform(-1.0, 1.0, (40, *centre.shape))
    moves[:20] = np.sign(moves[:20])
    points = (centre + _RADIUS * moves).reshape((-1, 6, 6, 2)).astype(np.float32)
    outputs = model.predict(points, verbose=0, batch_size=80)
    outputs = outputs.reshape((40, 2, *outputs.shape[1:]))
    assert found.lower.shape == outputs.shape[1:]
    assert (outputs >= found.lower.numpy() - 1e-7).all()
    assert (outputs <= found.upper.numpy() + 1e-7).all()
    assert np.isfinite(found.upper - found.lower).all()


@pytest.mark.parametrize(
    "layer",
    [
        _LAYERS.Dense(3),
        _LAYERS.ReLU(),
        _LAYERS.Activation("gelu"),
        _LAYERS.Activation("silu"),
        _LAYERS.Rescaling(-2.0),
    ],
    ids=str,
)
def test_bounds_of_one_layer_are_the_smallest(layer):
    """Over all corners, and the lowest point of what falls and rises."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((1, 1, 4)), layer])
    box = Interval(tf.fill((1, 1, 1, 4), -2.0), tf.fill((1, 1, 1, 4), 1.0))
    grid = [-2.0, -1.2784645, -0.7517915, 1.0]
    points = np.array(list(itertools.product(grid, repeat=4)), np.float32)
    outputs = model(points.reshape((-1, 1, 1, 4))).numpy()
    found = IntervalNet("test", model).outputs(box)
    np.testing.assert_allclose(outputs.min(axis=0)[None], found.lower, atol=2e-5)
    np.testing.assert_allclose(outputs.max(axis=0)[None], found.upper, atol=2e-5)


def test_margins_of_a_linear_model_are_exact():
    draw = np.random.default_rng(2)
    weights, offset = draw.normal(size=(8, 3)), draw.normal(size=3)
    dense = keras.layers.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((2, 4, 1)), keras.layers.Flatten(), dense])
    dense.set_weights([weights, offset])
    images, labels = draw.uniform(size=(5, 2, 4, 1)), np.array([0, 1, 2, 0, 1])
    box = Interval(tf.constant(images - 0.1), tf.constant(images + 0.1))
    found = IntervalNet("test", model).margins(box, tf.constant(labels))
    apart = weights[:, labels].T[:, :, None] - weights[None]
    expected = np.einsum("bf,bfc->bc", images.reshape((5, 8)), apart)
    expected += offset[labels][:, None] - offset - 0.1 * np.abs(apart).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_merging_the_last_layer_is_tighter():
    model = _model(_through(_LAYERS.Flatten(), _LAYERS.Dense(3)))
    box = Interval(tf.zeros((1, 6, 6, 2)), tf.ones((1, 6, 6, 2)))
    net = IntervalNet("test", model)
    ends = net.outputs(box)
    apart = ends.lower[:, :1] - ends.upper
    merged = net.margins(box, tf.constant([0]))
    assert (merged[0, 1:] > apart[0, 1:] + 0.1).numpy().all()
    assert merged[0, 0] == 0.0


_REFUSED = (
    *("subclassed_logits", "subclassed_probabilities"),
    *("int8", "legacy", "saved_model"),
)
# Laid bare, they end in operations that boxes cannot follow.
_APART = ("softmax_before_pooling", "sigmoid_unit", "sigmoid_layer", "one_logit")


@pytest.mark.parametrize(
    "form", [each for each in FORMS if each.name not in _REFUSED + _APART], ids=str
)
def test_margins_of_each_form_are_those_of_its_logits(form):
    found = []
    for bare in (False, True):
        brought = form.make(bare)
        span = brought.value_range[1] - brought.value_range[0]
        images = brought.images.astype("float64")
        ends = (tf.constant(images + side * 0.05 * span) for side in (-1, 1))
        net = IntervalNet("test", brought.model)
        found.append(net.margins(Interval(*ends), tf.constant(brought.labels)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "form", [each for each in FORMS if each.name in _REFUSED], ids=str
)
def test_other_forms_are_refused_in_one_sentence(form):
    with pytest.raises(ValueError, match="`test` expects `model` to be "):
        IntervalNet("test", form.make().model)


def test_one_logit_stands_for_two():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    net = IntervalNet("test", model)
    box = Interval(tf.fill((2, 4), -0.1), tf.fill((2, 4), 0.2))
    ends = net.outputs(box)
    found = net.margins(box, tf.constant([0, 1]))
    np.testing.assert_allclose(found[0], [0.0, -ends.upper[0, 0]], rtol=1e-6)
    np.testing.assert_allclose(found[1], [ends.lower[1, 0], 0.0], rtol=1e-6)


def test_cast():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    (step,) = IntervalNet("test", model).steps
    part = cast(step.make(), tf.float64)
    assert part.kernel.dtype == part.offset.dtype == tf.float64


def test_bent_slopes():
    layers = [keras.layers.LeakyReLU(0.1), keras.layers.Activation("tanh")]
    model = keras.Sequential([keras.Input((2,)), *layers])
    bent, other = (step.make() for step in IntervalNet("test", model).steps)
    assert bent_slopes(bent) == (pytest.approx(0.1), 1.0)
    assert bent_slopes(other) is None

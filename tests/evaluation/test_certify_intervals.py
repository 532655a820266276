import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import AutoAttack
from keras_advdef.core import Interval
from keras_advdef.core.interval_net import IntervalNet
from keras_advdef.evaluation import certify_intervals

_METHODS = ("ibp", "crown")


def _tiny_net(seed, *, head="softmax"):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((2, 3, 1)),
            layers.Conv2D(4, 2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(4, 2),
            layers.LeakyReLU(0.1),
            layers.Flatten(),
            layers.Dense(6, activation="relu"),
            layers.Dense(3, activation=head),
        ]
    )
    draw = np.random.default_rng(seed)
    for weight in net.weights:
        if "moving" not in weight.path:
            weight.assign(draw.normal(0.0, 0.7, weight.shape))
    return net


def _least_margins(net, images, labels, epsilon):
    """Over all corners of each ball within [0, 1], and points between."""
    draw = np.random.default_rng(7)
    corners = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    moves = np.concatenate([corners, draw.uniform(-1.0, 1.0, (200, 6))])
    moves = epsilon * moves.reshape((-1, 1, 2, 3, 1))
    points = np.clip(images + moves, 0.0, 1.0).astype(np.float32)
    logits = np.log(net.predict(points.reshape((-1, 2, 3, 1)), verbose=0) + 1e-30)
    logits = logits.reshape((len(moves), len(images), 3))
    rows = np.arange(len(images))
    own = logits[:, rows, labels].copy()
    logits[:, rows, labels] = -np.inf
    return (own - logits.max(axis=2)).min(axis=0)


@pytest.mark.parametrize("method", _METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_no_corner_beats_a_margin(seed, method):
    net = _tiny_net(seed)
    images = np.random.default_rng(seed).uniform(size=(12, 2, 3, 1)).astype(np.float32)
    labels = net.predict(images, verbose=0).argmax(axis=1)
    found = certify_intervals(net, images, labels, epsilon=0.02, method=method)
    least = _least_margins(net, images, labels, 0.02)
    assert (found.margins <= least + 1e-5).all()
    # The logarithm of small shares rounds more than logits do.
    assert found.certified.any()
    np.testing.assert_array_equal(found.certified, found.margins > 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_lines_are_tighter_than_boxes(seed):
    net = _tiny_net(seed)
    images = np.random.default_rng(seed).uniform(size=(12, 2, 3, 1)).astype(np.float32)
    labels = net.predict(images, verbose=0).argmax(axis=1)
    boxes, lines = (
        certify_intervals(net, images, labels, epsilon=0.05, method=method).margins
        for method in _METHODS
    )
    assert (lines >= boxes).all()
    assert np.mean(lines - boxes) > 0.01


@pytest.mark.parametrize("method", _METHODS)
def test_linear_models_in_closed_form(method):
    draw = np.random.default_rng(0)
    weights = draw.normal(size=(6, 2))
    net = keras.Sequential(
        [keras.Input((2, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    net.layers[-1].set_weights([weights, np.array([0.1, -0.2])])
    # Away from the ends of the range.
    images, labels = draw.uniform(60.0, 200.0, (8, 2, 3, 1)), np.arange(8) % 2
    found = certify_intervals(
        net, images, labels, epsilon=10.0, value_range=(0.0, 255.0), method=method
    )
    apart = weights[:, 0] - weights[:, 1]
    signs = np.where(labels == 0, 1.0, -1.0)
    expected = signs * (images.reshape((8, 6)) @ apart + 0.3)
    expected -= 10.0 * np.abs(apart).sum()
    np.testing.assert_allclose(found.margins, expected, rtol=1e-4, atol=0.02)
    assert (found.margins < expected).all()


def test_one_hidden_layer_in_closed_form():
    """With one input, the output is straight between the bends."""
    net = keras.Sequential(
        [
            keras.Input((1, 1, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    # relu(x) - relu(0.5 - x) + 0.2
    net.layers[1].set_weights([np.array([[1.0, -1.0]]), np.array([0.0, 0.5])])
    net.layers[2].set_weights([np.array([[1.0], [-1.0]]), np.array([0.2])])
    image = np.full((1, 1, 1, 1), 0.5)
    boxes, lines = (
        certify_intervals(net, image, [1], epsilon=0.25, method=method).margins[0]
        for method in _METHODS
    )
    # The two units of [0.25, 0.75]: [0.25, 0.75] and [0, 0.25].
    assert boxes == pytest.approx(0.25 - 0.25 + 0.2, abs=1e-4)
    # The line above the second unit is (0.75 - x) / 2, so the least is at 0.25; there
    # the output itself is 0.2.
    assert lines == pytest.approx(0.25 - 0.25 + 0.2, abs=1e-4)


@pytest.mark.filterwarnings("ignore:The targeted DLR:UserWarning")
@pytest.mark.parametrize("method", _METHODS)
def test_no_certified_image_is_broken(trained_net, digits, method):
    images, labels = digits.x_test[:60], digits.y_test[:60]
    certified = certify_intervals(
        trained_net, images, labels, epsilon=0.01, method=method
    ).certified
    attack = AutoAttack(0.01)
    moved = attack.generate(trained_net, images, labels, seed=0, verbose=0)
    survives = attack.predict(trained_net, moved) == labels
    assert not (certified & ~survives).any()
    if method == "crown":
        assert certified.mean() > 0.5


def test_holds_however_the_model_rounds():
    """Terms of thousands leave margins of 0.0001, which float32 cannot see."""
    draw = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(2),
        ]
    )
    hidden = 100.0 * draw.normal(size=(64, 64))
    last = draw.normal(size=64)
    net.layers[1].set_weights([hidden, np.zeros(64)])
    net.layers[2].set_weights([np.stack([last, last], axis=1), np.array([1e-4, 0.0])])
    images = draw.uniform(size=(200, 8, 8, 1)).astype(np.float32)
    labels = np.zeros(200, int)
    found = certify_intervals(net, images, labels, epsilon=1e-9)
    outputs = net.predict(images, verbose=0, batch_size=7).astype(np.float64)
    # float32 even loses the difference of the offsets.
    assert (outputs[:, 0] - outputs[:, 1] <= 0.0).any()
    assert not found.certified.any()
    # Exact numbers have it, so exact bounds would claim it.
    point = tf.constant(images.astype(np.float64))
    exact = IntervalNet("test", net).margins(
        Interval(point, point), tf.constant(labels)
    )
    assert (exact[:, 1].numpy() > 0.0).all()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"epsilon": 0.0}, "`epsilon` to be"),
        ({"epsilon": -0.1}, "`epsilon` to be"),
        ({"method": "ibp+"}, "`method` to be"),
        ({"batch_size": 0}, "`batch_size` to be"),
        ({"labels": [3]}, "`labels`"),
    ],
)
def test_bad_input(changes, text):
    given = {"epsilon": 0.1, "labels": [0], **changes}
    with pytest.raises(ValueError, match=f"`certify_intervals` expects {text}"):
        certify_intervals(_tiny_net(0), np.zeros((1, 2, 3, 1)), **given)


def test_half_precision_is_refused():
    layer = keras.layers.Dense(2, dtype="mixed_bfloat16", name="half")
    net = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), layer])
    with pytest.raises(ValueError, match="but `half` computes in bfloat16"):
        certify_intervals(net, np.zeros((1, 2, 2, 1)), [0], epsilon=0.1)


def test_data_sets_and_odd_batches(trained_net, digits):
    images, labels = digits.x_test[:11], digits.y_test[:11]
    whole = certify_intervals(trained_net, images, labels, epsilon=0.01)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    parts = certify_intervals(trained_net, data, epsilon=0.01, batch_size=3)
    np.testing.assert_allclose(whole.margins, parts.margins)
    assert whole.certified.dtype == bool

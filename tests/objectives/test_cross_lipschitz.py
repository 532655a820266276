import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.objectives import CrossLipschitz
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import linear_net, small_net, sparse_loss

CONTRACT = [{"weight": 0.1}, {"weight": 0.1, "projections": 2}]


def penalty_of(net, images, **arguments):
    penalty = CrossLipschitz(**{"weight": 1.0, **arguments})
    return penalty(AdversarialTrainingModel(net), tf.constant(images), None)


def smooth_net(hidden=7, classes=3):
    """One hidden layer with a steep softplus and no biases, as the authors have it."""

    def steep(inputs):
        return keras.ops.softplus(10.0 * inputs) / 10.0

    return keras.Sequential(
        [
            keras.Input((3, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(hidden, use_bias=False, activation=steep),
            keras.layers.Dense(classes, use_bias=False),
        ]
    )


def closed_form(net, images):
    """Omega of the one-hidden-layer net, by facts 3(1)."""
    first, last = (np.asarray(w, "float64") for w in net.get_weights())
    classes = last.shape[1]
    slopes = 1 / (1 + np.exp(-10.0 * images.reshape(len(images), -1) @ first))
    coupling = classes * last @ last.T - np.outer(last.sum(1), last.sum(1))
    products = coupling * (first.T @ first)
    values = np.einsum("rs,ir,is->i", products, slopes, slopes)
    return 2 / classes**2 * values


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return generator.uniform(size=(5, 3, 2, 1)).astype("float32")


def test_linear_map_by_hand():
    net = linear_net([[1, 0], [0, 1], [1, 1]], [0, 0, 0])
    found = penalty_of(net, np.random.default_rng(0).uniform(size=(4, 2, 1, 1)))
    np.testing.assert_allclose(found, np.full(4, 0.88888889), rtol=1e-6)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_unit_by_hand(activation):
    # Logits 0 and w x with w = [3, 4]: 2 |w|^2 / 2^2 = 12.5.
    net = keras.Sequential(
        [
            keras.Input((2, 1, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation=activation),
        ]
    )
    net.set_weights([np.array([[3.0], [4.0]]), np.zeros(1)])
    found = penalty_of(net, np.full((1, 2, 1, 1), 0.1, "float32"))
    np.testing.assert_allclose(found, [12.5], rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 10, 11, 60])
def test_equals_the_closed_form_of_one_hidden_layer(classes, images):
    net = smooth_net(classes=classes)
    expected = closed_form(net, images)
    np.testing.assert_allclose(penalty_of(net, images), expected, rtol=1e-5)


def test_two_classes_and_scale_and_common_function(images):
    net = smooth_net(classes=2)
    with tf.GradientTape(persistent=True) as tape:
        pixels = tf.constant(images)
        tape.watch(pixels)
        first, second = tf.unstack(net(pixels), axis=1)
    gap = tape.gradient(first, pixels) - tape.gradient(second, pixels)
    expected = 0.5 * tf.reduce_sum(gap**2, [1, 2, 3])
    np.testing.assert_allclose(penalty_of(net, images), expected, rtol=1e-5)
    last = net.layers[-1].kernel
    last.assign(3.0 * last)
    np.testing.assert_allclose(penalty_of(net, images), 9 * expected, rtol=1e-5)
    last.assign(last + 5.0)
    np.testing.assert_allclose(penalty_of(net, images), 9 * expected, rtol=1e-3)
    last.assign(tf.repeat(last[:, :1], 2, axis=1))
    np.testing.assert_allclose(penalty_of(net, images), 0.0, atol=1e-5)


@pytest.mark.parametrize("projections", [2, 14])
def test_projections_are_unbiased(projections, images):
    net = smooth_net()
    exact = penalty_of(net, images).numpy()
    many = np.repeat(images, 400, axis=0)
    draws = penalty_of(net, many, projections=projections)
    draws = draws.numpy().reshape(len(images), 400)
    error = draws.std(axis=1) / np.sqrt(400)
    assert (np.abs(draws.mean(axis=1) - exact) < 4.5 * error).all()
    spread = draws.std(axis=1) * np.sqrt(projections)
    assert (spread > 0.1 * exact).all()


@pytest.mark.parametrize("projections", [None, 3])
def test_gradients_of_weights_match_finite_differences(projections, images):
    net = smooth_net()
    model = AdversarialTrainingModel(net)
    penalty = CrossLipschitz(weight=1.0, projections=projections)
    from keras_advdef.core.random_numbers import make_key
    from keras_advdef.core.random_state import draw_scope

    def total():
        with draw_scope(make_key(4)):
            return tf.reduce_sum(penalty(model, tf.constant(images), None))

    with tf.GradientTape() as tape:
        value = total()
    gradients = tape.gradient(value, net.trainable_weights)
    for variable, gradient in zip(net.trainable_weights, gradients, strict=True):
        direction = np.random.default_rng(1).normal(size=variable.shape)
        direction = (direction / np.linalg.norm(direction)).astype("float32")
        start, width, ends = variable.numpy(), 2e-3, []
        for sign in (1, -1):
            variable.assign(start + sign * width * direction)
            ends.append(float(total()))
        variable.assign(start)
        slope = (ends[0] - ends[1]) / (2 * width)
        along = float(tf.reduce_sum(gradient * direction))
        assert slope == pytest.approx(along, rel=0.02, abs=2e-3)
        assert abs(slope) > 1e-2


def test_a_step_of_many_classes_follows_the_whole_derivative(images):
    """Of a curved net, whose penalty is computed part by part."""
    net = smooth_net(classes=30)
    start = [each.numpy() for each in net.trainable_weights]
    with tf.GradientTape() as tape:
        first, last = net.trainable_weights
        logits = tf.reshape(images, [len(images), -1]) @ first
        slopes = tf.einsum("ir,pr,rk->ikp", tf.sigmoid(10.0 * logits), first, last)
        about_mean = slopes - tf.reduce_mean(slopes, axis=1, keepdims=True)
        total = 2.0 / 30 * tf.reduce_mean(tf.reduce_sum(about_mean**2, [1, 2]))
    expected = tape.gradient(total, net.trainable_weights)
    model = AdversarialTrainingModel(net, penalties=[CrossLipschitz(weight=1.0)])
    without = AdversarialTrainingModel(smooth_net(classes=30))
    without.classifier.set_weights(start)
    for each in (model, without):
        each.compile(keras.optimizers.SGD(1.0), sparse_loss())
        each.fit(images, np.arange(5), verbose=0)
    moved = zip(net.weights, without.classifier.weights, expected, strict=True)
    for one, other, slope in moved:
        np.testing.assert_allclose(other - one, slope, rtol=1e-3, atol=1e-5)


def left_after_training(digits, weight, projections=None, **options):
    x, y = digits.x_train[:96], digits.y_train[:96]
    keras.utils.set_random_seed(0)
    net = small_net()
    penalty = CrossLipschitz(weight=weight, projections=projections)
    model = AdversarialTrainingModel(net, penalties=[penalty], seed=0)
    model.compile(keras.optimizers.Adam(0.01), sparse_loss(), **options)
    model.fit(x, y, epochs=4, verbose=0)
    return float(np.mean(penalty_of(net, x)))


@pytest.fixture(scope="module")
def left_without_weight(digits):
    return left_after_training(digits, 0.0, run_eagerly=True)


@pytest.mark.parametrize(
    ("projections", "jit"),
    [
        (None, False),
        (1, True),
        pytest.param(None, True, marks=pytest.mark.nightly),
        pytest.param(1, False, marks=pytest.mark.nightly),
    ],
)
def test_training_lowers_it(projections, jit, left_without_weight, digits):
    left = left_after_training(digits, 5.0, projections, jit_compile=jit)
    assert left < 0.8 * left_without_weight


def test_draws_differ_from_step_to_step_and_repeat_with_the_seed(digits):
    x, y = digits.x_train[:8], digits.y_train[:8]
    losses = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(0)
        penalty = CrossLipschitz(weight=1.0, projections=1)
        model = AdversarialTrainingModel(small_net(), penalties=[penalty], seed=seed)
        model.compile(keras.optimizers.SGD(0.0), sparse_loss(), run_eagerly=True)
        history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
        losses.append(history.history["loss"])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[0][0] != losses[0][1]


def test_adds_up_with_an_attack_and_is_restored(digits, tmp_path):
    x, y = digits.x_train[:16], digits.y_train[:16]
    penalty = CrossLipschitz(weight=0.01, projections=2)
    model = AdversarialTrainingModel(small_net(), FGSM(0.1), penalties=[penalty])
    model.compile("sgd", sparse_loss(), run_eagerly=True)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.penalties[0].get_config() == {"weight": 0.01, "projections": 2}
    copy.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"weight": -1.0}, "weight"), ({"weight": 1.0, "projections": 0}, "projections")],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"`CrossLipschitz` expects `{name}`"):
        CrossLipschitz(**arguments)


def test_images_of_a_batch_do_not_mix_through_normalisation(images):
    layers = [keras.layers.Flatten(), keras.layers.BatchNormalization()]
    net = keras.Sequential(
        [keras.Input(images.shape[1:]), *layers, keras.layers.Dense(3)]
    )
    alone = [penalty_of(net, images[i : i + 1])[0] for i in range(len(images))]
    np.testing.assert_allclose(penalty_of(net, images), alone, rtol=1e-5)

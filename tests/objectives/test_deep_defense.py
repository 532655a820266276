import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.objectives import DeepDefense
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import linear_net, small_net, sparse_loss

CONTRACT = [{"steps": 2}, {"weight": 2.0, "norm": "linf", "steps": 1}]

# Logits [.6, .2, .3] at the point; facts, appendix B.
ROWS, BIAS = [[1, 0], [0, 1], [1, 1]], [0, 0, -0.5]
POINT = np.array([0.6, 0.2], "float32").reshape(1, 2, 1, 1)
RATIO = 0.45615787


def smooth_net(classes=3):
    """A net without kinks, so that finite differences mean something."""
    return keras.Sequential(
        [
            keras.Input((3, 3, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(classes),
        ]
    )


def value(net, images, labels, **arguments):
    model = AdversarialTrainingModel(net)
    return DeepDefense(**arguments)(model, tf.constant(images), tf.constant(labels))


class TestFixtures:
    def test_right_image(self):
        net = linear_net(ROWS, BIAS)
        ratio, is_right = DeepDefense().ratios(net, POINT, [0])
        assert bool(is_right[0])
        np.testing.assert_allclose(ratio, [RATIO], rtol=1e-5)
        np.testing.assert_allclose(value(net, POINT, [0]), [1.6727e-4], rtol=1e-3)

    def test_wrong_image(self):
        # Seen from class 1, the way to the label is the same way.
        net = linear_net(ROWS, BIAS)
        ratio, is_right = DeepDefense().ratios(net, POINT, [1])
        assert not bool(is_right[0])
        np.testing.assert_allclose(ratio, [RATIO], rtol=1e-5)
        expected = 15 * np.exp(5 * RATIO)
        assert expected == pytest.approx(146.766, rel=1e-4)
        np.testing.assert_allclose(value(net, POINT, [1]), [expected], rtol=1e-4)

    def test_groups_do_not_mix(self):
        net, both = linear_net(ROWS, BIAS), np.repeat(POINT, 2, axis=0)
        found = value(net, both, [0, 1])
        alone = [value(net, POINT, [label])[0] for label in (0, 1)]
        np.testing.assert_allclose(found, alone, rtol=1e-5)

    def test_linf_divides_by_the_l1_norm(self):
        net = linear_net(ROWS, BIAS)
        ratio, _ = DeepDefense(norm="linf").ratios(net, POINT, [0])
        np.testing.assert_allclose(ratio, [1.02 * 0.2 / 0.6], rtol=1e-5)


class TestCandidates:
    def test_few_of_many_classes_are_as_near_as_all(self, digits):
        images = digits.x_test[:12]
        net = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(32, activation="relu"),
                keras.layers.Dense(40),
            ]
        )
        labels = np.argmax(net(images), -1)
        labels[6:] = (labels[6:] + 1) % 40
        few, every = (
            DeepDefense(steps=3, candidates=each).ratios(net, images, labels)[0]
            for each in (10, 39)
        )
        np.testing.assert_allclose(few, every, rtol=1e-5)

    def test_graphs_do_not_grow_with_the_classes(self):
        sizes = []
        for classes in (11, 200):
            net = linear_net(np.eye(classes, 16), np.zeros(classes), (4, 4, 1))
            traced = tf.function(
                lambda x, y, net=net: DeepDefense(steps=2).ratios(net, x, y),
                autograph=False,
            ).get_concrete_function(
                tf.TensorSpec([2, 4, 4, 1]), tf.TensorSpec([2], tf.int64)
            )
            sizes.append(len(traced.graph.get_operations()))
        assert sizes[0] == sizes[1]


class TestRatios:
    @pytest.mark.parametrize("scale", [1e-3, 1e3])
    def test_do_not_depend_on_the_scale_of_the_logits(self, scale, trained_net, digits):
        x, y = digits.x_test[:20], digits.y_test[:20]
        scaled = keras.Sequential(
            [keras.Input((8, 8, 1)), trained_net, keras.layers.Rescaling(scale)]
        )
        expected, is_right = DeepDefense().ratios(trained_net, x, y)
        found, also = DeepDefense().ratios(scaled, x, y)
        np.testing.assert_array_equal(is_right, also)
        np.testing.assert_allclose(found, expected, rtol=1e-3)

    def test_lead_across_the_boundary(self, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]
        penalty = DeepDefense(steps=10)
        labels = tf.constant(y)
        from keras_advdef.core.logits import LogitsFunction

        logits_fn = LogitsFunction(trained_net)
        for given in (labels, (labels + 1) % 3):
            is_right = tf.argmax(logits_fn(x), 1) == given
            found = penalty._perturbation(logits_fn, tf.constant(x), given, is_right)
            there = tf.argmax(logits_fn(x + found), 1) == given
            assert np.mean(there != is_right) > 0.95

    def test_zero_gradients_and_zero_images(self):
        net = linear_net(np.zeros((3, 4)), [1.0, 0.0, 0.0], (2, 2, 1))
        images = np.zeros((2, 2, 2, 1), "float32")
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(value(net, images, [0, 1]))
        assert np.isfinite(float(total))
        for gradient in tape.gradient(total, net.trainable_weights):
            assert np.isfinite(gradient).all()

    def test_images_that_never_get_there_weigh_no_more_than_that(self):
        net = linear_net([[1e-4, 0], [0, 0]], [5.0, 0.0])
        assert float(value(net, POINT, [1])[0]) <= 15 * np.exp(10) * (1 + 1e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("steps", [1, 3])
def test_gradients_of_weights_match_finite_differences(norm, steps):
    net = smooth_net()
    net.layers[-1].bias.assign([0.1, -0.1, 0.05])
    generator = np.random.default_rng(0)
    images = generator.uniform(0.3, 0.7, (6, 3, 3, 1)).astype("float32")
    labels = net(images).numpy().argmax(-1)
    labels[:3] = (labels[:3] + 1) % 3
    settings = {"steps": steps, "norm": norm, "correct_scale": 5.0, "weight": 1.0}

    def total():
        return tf.reduce_sum(value(net, images, labels, **settings))

    with tf.GradientTape() as tape:
        result = total()
    gradients = tape.gradient(result, net.trainable_weights)
    for variable, gradient in zip(net.trainable_weights, gradients, strict=True):
        direction = np.random.default_rng(1).normal(size=variable.shape)
        direction = (direction / np.linalg.norm(direction)).astype("float32")
        start, width, ends = variable.numpy(), 1e-3, []
        for sign in (1, -1):
            variable.assign(start + sign * width * direction)
            ends.append(float(total()))
        variable.assign(start)
        slope = (ends[0] - ends[1]) / (2 * width)
        along = float(tf.reduce_sum(gradient * direction))
        assert slope == pytest.approx(along, rel=0.03, abs=5e-3)
        assert abs(slope) > 1e-3


def tuned(net, penalties, digits, *, epochs, rate, jit=False):
    """Trains a net, and returns how far the images are from its boundary."""
    model = AdversarialTrainingModel(net, penalties=penalties)
    model.compile(keras.optimizers.Adam(rate), sparse_loss(), jit_compile=jit)
    x, y = digits.x_train[:200], digits.y_train[:200]
    model.fit(x, y, epochs=epochs, verbose=0)
    ratios, is_right = DeepDefense().ratios(net, digits.x_test, digits.y_test)
    assert np.mean(is_right) > 0.95
    return np.mean(ratios)


def like(start):
    net = keras.models.clone_model(start)
    net.set_weights(start.get_weights())
    return net


@pytest.fixture(scope="module")
def undefended(digits):
    """A trained net, and its ratios before and after more epochs of the same."""
    keras.utils.set_random_seed(0)
    start = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    before = tuned(start, [], digits, epochs=20, rate=1e-2)
    return start, before, tuned(like(start), [], digits, epochs=10, rate=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_fine_tuning_enlarges_perturbations(jit, undefended, digits):
    start, before, plain = undefended
    # The gradients of further steps take long to compile.
    penalty = DeepDefense(steps=1, weight=3.0, correct_scale=5.0)
    options = {"epochs": 10, "rate": 5e-3, "jit": jit}
    defended = tuned(like(start), [penalty], digits, **options)
    assert defended > 1.2 * plain
    assert defended > 1.2 * before


def test_without_weight_it_is_plain_training(digits):
    x, y = digits.x_train[:32], digits.y_train[:32]
    weights = []
    for penalties in ([], [DeepDefense(weight=0.0, steps=1)]):
        keras.utils.set_random_seed(0)
        net = small_net()
        model = AdversarialTrainingModel(net, penalties=penalties, seed=0)
        model.compile(keras.optimizers.SGD(0.1), sparse_loss(), run_eagerly=True)
        model.fit(x, y, verbose=0, shuffle=False)
        weights.append(net.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_one_hot_labels_and_configuration():
    penalty = DeepDefense(steps=2, norm="linf")
    assert DeepDefense(**penalty.get_config()).get_config() == penalty.get_config()
    net, images = smooth_net(), np.full((3, 3, 3, 1), 0.5, "float32")
    one_hot = np.eye(3, dtype="float32")
    found = [value(net, images, labels, steps=2) for labels in ([0, 1, 2], one_hot)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"weight": -1.0}, "weight"),
        ({"correct_scale": 0.0}, "correct_scale"),
        ({"wrong_scale": -5.0}, "wrong_scale"),
        ({"steps": 0}, "steps"),
        ({"norm": "l1"}, "norm"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"`DeepDefense` expects `{name}`"):
        DeepDefense(**arguments)


def test_linear_models_need_one_step():
    generator = np.random.default_rng(0)
    weights, bias = generator.normal(size=(4, 16)), generator.normal(size=4)
    net = linear_net(weights, bias, (4, 4, 1))
    images = generator.uniform(0.2, 1, (20, 4, 4, 1)).astype("float32")
    logits = images.reshape(20, -1) @ weights.T + bias
    labels = logits.argmax(1)
    gaps = logits.max(1, keepdims=True) - logits
    lengths = np.linalg.norm(weights[labels][:, None] - weights, axis=2)
    with np.errstate(invalid="ignore"):
        nearest = np.nanmin(np.where(lengths > 0, gaps / lengths, np.nan), axis=1)
    expected = 1.02 * nearest / np.linalg.norm(images.reshape(20, -1), axis=1)
    ratios, is_right = DeepDefense(steps=1).ratios(net, images, labels)
    assert is_right.numpy().all()
    np.testing.assert_allclose(ratios, expected, rtol=1e-4)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("scale", [1e-12, 1e-14, 1e-18])
def test_tiny_slopes_give_finite_gradients(scale, label):
    net = linear_net(scale * np.array(ROWS, float), [1.0, 0.5, 0.0])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(value(net, POINT, [label]))
    for gradient in tape.gradient(total, net.trainable_weights):
        assert np.isfinite(gradient).all()

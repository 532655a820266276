import keras
import numpy as np
import pytest

from keras_advdef.attacks import FAB, CarliniWagner, DeepFool
from keras_advdef.evaluation import certify_cross_lipschitz
from keras_advdef.evaluation.certify_cross_lipschitz import _Steepest
from keras_advdef.layers import VariationalDense
from tests.support.nets import linear_net, sparse_loss


def one_hidden_layer(activation="softplus", steepness=10.0):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(24),
            layers.Rescaling(steepness),
            layers.Activation(activation),
            layers.Rescaling(1 / steepness),
            layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def trained(digits):
    keras.utils.set_random_seed(3)
    net = one_hidden_layer()
    net.compile(keras.optimizers.Adam(0.01), sparse_loss())
    net.fit(digits.x_train, digits.y_train, epochs=15, verbose=0)
    return net


def test_exact_on_linear_models():
    generator = np.random.default_rng(0)
    weights, bias = generator.normal(size=(4, 16)), generator.normal(size=4)
    net = linear_net(weights, bias, (4, 4, 1))
    images = generator.uniform(size=(9, 4, 4, 1)).astype("float32")
    logits = images.reshape(9, -1) @ weights.T + bias
    labels = logits.argmax(axis=1)
    gaps = logits.max(axis=1, keepdims=True) - logits
    lengths = np.linalg.norm(weights[labels][:, None] - weights, axis=2)
    with np.errstate(invalid="ignore"):
        distances = np.where(lengths > 0, gaps / lengths, np.inf)
    radii = certify_cross_lipschitz(net, images, labels)
    np.testing.assert_allclose(radii, distances.min(axis=1), rtol=1e-4)
    wrong = certify_cross_lipschitz(net, images, (labels + 1) % 4)
    np.testing.assert_array_equal(wrong, np.zeros(9))


def many_classes(classes, activation="softplus", seed=0):
    """A net, images, and its predictions as labels, except for one wrong label."""
    keras.utils.set_random_seed(seed)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation=activation),
            keras.layers.Dense(classes),
        ]
    )
    images = np.random.default_rng(seed).uniform(size=(4, 8, 8, 1)).astype("float32")
    labels = net.predict(images, verbose=0).argmax(axis=1)
    labels[-1] = (labels[-1] + 1) % classes
    return net, images, labels


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_is_the_smallest_radius_of_all_pairs_of_classes(activation):
    classes = 6
    net, images, labels = many_classes(classes, activation)
    radii = certify_cross_lipschitz(net, images, labels)
    kernel, bias = net.layers[-1].get_weights()
    pair = keras.Sequential(
        [keras.Input((8, 8, 1)), *net.layers[:-1], keras.layers.Dense(2)]
    )
    smallest = np.full(len(images), np.inf)
    for row, label in enumerate(labels):
        for other in set(range(classes)) - {label}:
            columns = [label, other]
            pair.layers[-1].set_weights([kernel[:, columns], bias[columns]])
            found = certify_cross_lipschitz(pair, images[row : row + 1], [0])
            smallest[row] = min(smallest[row], found[0])
    # A radius leaves room for the rounding of the largest logit, of all or of two.
    np.testing.assert_allclose(radii, smallest, rtol=1e-4, atol=1e-6)
    assert radii[-1] == 0.0
    assert (radii[:-1] > 0).all()


def test_work_hardly_grows_with_the_classes(monkeypatch):
    rows, whole = [], _Steepest.__call__

    def counted(steepest, radius):
        rows.append(len(radius))
        return whole(steepest, radius)

    monkeypatch.setattr(_Steepest, "__call__", counted)
    work = []
    for classes in (10, 1000):
        rows.clear()
        certify_cross_lipschitz(*many_classes(classes))
        work.append(sum(rows))
    assert work[1] < 3 * work[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        DeepFool(),
        FAB(steps=30, norm="l2"),
        CarliniWagner(steps=60, binary_search_steps=4, learning_rate=0.05),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_never_beyond_an_attack(attack, trained, digits):
    images, labels = digits.x_test[:60], digits.y_test[:60]
    radii = certify_cross_lipschitz(trained, images, labels)
    found = attack.search(trained, images, labels, seed=0, verbose=0)
    assert (radii > 0).mean() > 0.9
    assert np.isfinite(found.norms).mean() > 0.9
    assert (radii <= found.norms * (1 + 1e-5)).all()
    # The bound is not trivial: it is within a factor of the attack's distances.
    assert np.median(radii[radii > 0]) > 0.2 * np.median(found.norms)


@pytest.mark.parametrize("activation", ["softplus", "relu", "elu"])
def test_slope_bound_holds_in_the_ball(activation):
    net = one_hidden_layer(activation, steepness=1.0)
    generator = np.random.default_rng(1)
    images = generator.uniform(size=(4, 8, 8, 1)).astype("float32")
    labels = net.predict(images, verbose=0).argmax(axis=1)
    radii = certify_cross_lipschitz(net, images, labels)
    steps = generator.normal(size=(200, *images.shape))
    norms = np.linalg.norm(steps.reshape(*steps.shape[:2], -1), axis=2)
    steps /= norms[..., None, None, None]
    moved = images + 0.999 * radii[:, None, None, None] * steps
    moved = moved.reshape(-1, *images.shape[1:]).astype("float32")
    found = net.predict(moved, batch_size=400, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(found, np.tile(labels, 200))


def test_rescaling_before_and_after_is_part_of_the_net():
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input((2, 1, 1)),
            layers.Rescaling(2.0, 0.5),
            layers.Flatten(),
            layers.Rescaling(3.0),
            layers.Dense(2),
            layers.Rescaling(0.5),
        ]
    )
    net.layers[3].set_weights([np.eye(2), np.array([0.25, 0.0])])
    images = np.array([[0.9, 0.1]]).reshape(1, 2, 1, 1)
    radii = certify_cross_lipschitz(net, images, [0])
    # 3 (6 x_0 - 6 x_1) / 6 and the bias, over sqrt(2).
    np.testing.assert_allclose(radii, [(0.8 + 0.25 / 6) / np.sqrt(2)], rtol=1e-5)


def test_large_images_need_no_matrix_of_their_own():
    net = keras.Sequential(
        [keras.Input((224, 224, 3)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    )
    with pytest.raises(ValueError, match="net of one hidden layer"):
        certify_cross_lipschitz(net, np.zeros((1, 224, 224, 3)), [0])


def test_blocks_change_nothing(trained, digits):
    images, labels = digits.x_test[:70], digits.y_test[:70]
    whole = certify_cross_lipschitz(trained, images, labels)
    part = certify_cross_lipschitz(trained, images[60:], np.eye(3)[labels[60:]])
    np.testing.assert_allclose(whole[60:], part, rtol=1e-5)


def test_other_models_are_refused():
    layers = keras.layers

    def net(*more):
        return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), *more])

    images, labels = np.zeros((1, 4, 4, 1)), [0]
    deep = net(layers.Dense(4, "relu"), layers.Dense(4, "relu"), layers.Dense(2))
    falling = net(layers.Dense(4, activation="tanh"), layers.Dense(2))
    normed = net(layers.BatchNormalization(), layers.Dense(2))
    softmax = net(layers.Dense(4, "relu"), layers.Dense(2, "softmax"))
    for model in (deep, falling, normed, softmax):
        with pytest.raises(ValueError, match="net of one hidden layer"):
            certify_cross_lipschitz(model, images, labels)
    for model in (net(), net(layers.Activation("relu"), layers.Dense(2))):
        with pytest.raises(ValueError, match="`certify_cross_lipschitz` expects"):
            certify_cross_lipschitz(model, images, labels)
    with pytest.raises(ValueError, match=r"a built `keras\.Sequential`"):
        certify_cross_lipschitz(len, images, labels)
    pooled = [layers.GlobalAveragePooling2D(), layers.Dense(2)]
    of_any_size = keras.Sequential([keras.Input((None, None, 1)), *pooled])
    with pytest.raises(ValueError, match="images of a known size"):
        certify_cross_lipschitz(of_any_size, images, labels)


def test_random_and_half_layers_are_refused():
    for layer in (VariationalDense(2), keras.layers.Dense(2, dtype="mixed_float16")):
        net = keras.Sequential([keras.Input((4, 1, 1)), keras.layers.Flatten(), layer])
        with pytest.raises(ValueError, match="`certify_cross_lipschitz` expects"):
            certify_cross_lipschitz(net, np.zeros((1, 4, 1, 1)), [0])


def test_classes_of_equal_slope_set_no_limit():
    net = linear_net([[1, 0], [1, 0], [0, 1]], [1.0, 0.0, 0.0])
    image = np.array([0.9, 0.1]).reshape(1, 2, 1, 1)
    found = certify_cross_lipschitz(net, image, [0])
    np.testing.assert_allclose(found, [1.8 / np.sqrt(2)], rtol=1e-4)
    constant = linear_net(np.zeros((2, 2)), [1.0, 0.0])
    assert certify_cross_lipschitz(constant, image, [0])[0] == np.inf


def test_a_unit_that_is_off_is_met_where_it_goes_on():
    hidden = keras.layers.Dense(1, activation="relu")
    head = keras.layers.Dense(2)
    net = keras.Sequential(
        [keras.Input((1, 1, 1)), keras.layers.Flatten(), hidden, head]
    )
    hidden.set_weights([np.array([[1.0]]), np.array([-4.5])])
    # Class 1 is ahead where 10 relu(x - 4.5) is above 1: beyond 4.6.
    head.set_weights([np.array([[0.0, 10.0]]), np.array([1.0, 0.0])])
    found = certify_cross_lipschitz(net, np.zeros((1, 1, 1, 1)), [0])
    # The bound uses the slope as if the unit were active all the way.
    assert 4.49 < found[0] <= 4.6

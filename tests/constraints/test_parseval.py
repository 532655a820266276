import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.constraints import Parseval


def kernel_of(values, rows=5, seed=0):
    """A matrix with these singular values."""
    generator = np.random.default_rng(seed)
    left = np.linalg.qr(generator.normal(size=(rows, len(values))))[0]
    right = np.linalg.qr(generator.normal(size=(len(values),) * 2))[0]
    return tf.constant(left @ np.diag(values) @ right.T, tf.float32)


def singular_values(matrix):
    return np.linalg.svd(np.asarray(matrix), compute_uv=False)


def test_equals_the_step_by_hand():
    kernel = tf.constant([[1.0, 0.5], [0.0, 1.0]])
    expected = [[0.975, 0.4375], [-0.05, 0.975]]
    np.testing.assert_allclose(Parseval(beta=0.1)(kernel), expected, atol=1e-6)


def test_singular_values_move_by_the_cubic_and_vectors_stay():
    values = np.array([2.0, 1.5, 1.0, 0.5])
    kernel = kernel_of(values)
    for each in (kernel, tf.transpose(kernel)):
        stepped = Parseval(beta=0.1)(each)
        expected = [1.4, 1.3125, 1.0, 0.5375]
        np.testing.assert_allclose(singular_values(stepped), expected, atol=1e-5)
    left, _, right = np.linalg.svd(kernel, full_matrices=False)
    inside = left.T @ Parseval(beta=0.1)(kernel).numpy() @ right.T
    np.testing.assert_allclose(inside, np.diag([1.4, 1.3125, 1.0, 0.5375]), atol=1e-5)


def test_steps_iterate():
    kernel, once = kernel_of([0.3, 0.8, 1.7]), Parseval(beta=0.2)
    twice = once(once(kernel))
    np.testing.assert_allclose(Parseval(beta=0.2, steps=2)(kernel), twice, atol=1e-6)


@pytest.mark.parametrize(("beta", "steps"), [(0.5, 4), (2e-3, 1248)])
def test_as_many_steps_as_the_recurrence_says(beta, steps):
    kernel, parseval = kernel_of([0.5]), tf.function(Parseval(beta=beta))
    for _ in range(steps - 1):
        kernel = parseval(kernel)
    assert singular_values(kernel)[0] < 0.99
    assert singular_values(parseval(kernel))[0] >= 0.99 - 1e-6


def test_half_steps_end_at_an_orthonormal_kernel():
    stepped = Parseval(beta=0.5, steps=12)(kernel_of([0.4, 0.9, 1.2]))
    np.testing.assert_allclose(tf.transpose(stepped) @ stepped, np.eye(3), atol=1e-5)


def test_decay_settles_where_the_docstring_says():
    kernel, parseval = kernel_of([1.0, 0.7]), tf.function(Parseval(beta=0.02))
    for _ in range(2000):
        kernel = parseval((1 - 0.1 * 0.05) * kernel)
    np.testing.assert_allclose(
        singular_values(kernel), np.sqrt(1 - 0.1 * 0.05 / 0.02), rtol=0.02
    )
    for _ in range(4000):
        kernel = parseval((1 - 0.03) * kernel)
    assert singular_values(kernel).max() < 1e-3


@pytest.mark.parametrize(
    ("layer", "name", "depthwise"),
    [
        (keras.layers.Dense(3), "kernel", False),
        (keras.layers.Conv2D(3, 3), "kernel", False),
        (keras.layers.Conv2DTranspose(3, 2), "kernel", False),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), "kernel", True),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_kernels_of_layers_become_orthonormal(layer, name, depthwise):
    layer.build((None, 4) if isinstance(layer, keras.layers.Dense) else (None, 8, 8, 4))
    kernel = tf.convert_to_tensor(getattr(layer, name))
    stepped = Parseval(beta=0.5, steps=60, depthwise=depthwise)(kernel)
    assert stepped.shape == kernel.shape
    matrices = np.reshape(stepped, (-1, kernel.shape[-1]))[None]
    if depthwise:
        matrices = np.moveaxis(np.reshape(stepped, (9, 4, 2)), 1, 0)
    for matrix in matrices:
        np.testing.assert_allclose(singular_values(matrix), 1.0, atol=1e-3)


def test_fit_applies_it_after_each_step():
    keras.utils.set_random_seed(0)
    parseval = Parseval(beta=0.1)
    layer = keras.layers.Dense(3, kernel_constraint=parseval)
    model = keras.Sequential([keras.Input((4,)), layer])
    start = layer.kernel.numpy()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    y = np.random.default_rng(1).normal(size=(6, 3)).astype("float32")
    gradient = 2 * x.T @ (x @ start - y) / y.size
    model.fit(x, y, batch_size=6, verbose=0)
    expected = parseval(tf.constant(start - 0.1 * gradient))
    np.testing.assert_allclose(layer.kernel, expected, atol=1e-5)


def test_half_precision_and_configuration():
    parseval = Parseval(beta=0.25, steps=3, depthwise=True)
    assert Parseval(**parseval.get_config()).get_config() == parseval.get_config()
    stepped = Parseval(beta=0.1)(tf.ones((2, 2), tf.float16))
    assert stepped.dtype == tf.float16


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"beta": 0.0}, "beta"), ({"beta": 0.6}, "beta"), ({"steps": 0}, "steps")],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"`Parseval` expects `{name}`"):
        Parseval(**arguments)


def test_bad_kernels():
    with pytest.raises(ValueError, match="at least two axes"):
        Parseval()(tf.ones(3))
    with pytest.raises(ValueError, match="four axes"):
        Parseval(depthwise=True)(tf.ones((3, 3)))
    with pytest.raises(TypeError, match="depthwise"):
        Parseval(depthwise=1)


def test_is_half_a_gradient_step_of_the_regulariser():
    kernel = tf.Variable([[1.0, 0.5], [0.0, 1.0]])
    with tf.GradientTape() as tape:
        gram = tf.matmul(kernel, kernel, transpose_a=True)
        regulariser = 0.05 * tf.reduce_sum((gram - tf.eye(2)) ** 2)
    assert float(regulariser) == pytest.approx(0.028125, rel=1e-5)
    expected = kernel - 0.5 * tape.gradient(regulariser, kernel)
    np.testing.assert_allclose(Parseval(beta=0.1)(kernel), expected, atol=1e-6)


def test_one_row_alone():
    found = Parseval(beta=0.1)(tf.constant([[1.0, 0.5]]))
    np.testing.assert_allclose(found, [[0.975, 0.4875]], atol=1e-6)


def test_where_signs_flip_and_values_diverge():
    def moved(value):
        return float(Parseval(beta=0.1)(tf.constant([[value]]))[0, 0])

    assert moved(0.99 * 11**0.5) > 0 > moved(1.01 * 11**0.5)
    # The square root of 21 is 4.583.
    assert abs(moved(4.5)) < 4.5
    assert abs(moved(4.6)) > 4.6

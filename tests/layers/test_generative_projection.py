import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.generators import mean_squares
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.precision import in_bfloat16
from keras_advdef.core.random_numbers import make_key, normal
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import GenerativeProjection
from tests.support.generators import small_generator
from tests.support.nets import small_net, sparse_loss, weights_of

CONTRACT = [
    {"steps": 10, "restarts": 3, "learning_rate": 1.0},
    {"steps": 2, "restarts": 2, "learning_rate": 2.0, "gradient": "unrolled"},
]


@pytest.fixture
def generator():
    return small_generator()


@pytest.fixture
def made(generator):
    """Images that the generator makes."""
    return generator(normal(make_key(9), [6, 4]))


def projection(generator, **changes):
    arguments = {"steps": 10, "restarts": 2, "seed": 0, **changes}
    return GenerativeProjection(generator, **arguments)


class TestGenerativeProjection:
    def test_the_generators_own_images_stay(self, generator, made):
        layer = projection(generator, steps=200, restarts=10)
        assert np.max(mean_squares(layer(made), made)) < 1e-3

    def test_it_is_the_search_cut_to_the_range(self, images):
        generator = small_generator(activation="linear")
        layer = projection(generator, learning_rate=1.0)
        with draw_scope(make_key(3)):
            found = layer.search(tf.constant(images), layer.next_key()).images
        with draw_scope(make_key(3)):
            result = layer(images)
        assert np.min(found) < -0.05
        np.testing.assert_allclose(result, np.clip(found, 0, 1), atol=1e-6)

    def test_other_ranges(self, generator, images):
        wide = keras.Sequential(
            [keras.Input((4,)), generator, keras.layers.Rescaling(8.0, offset=-2.0)]
        )
        unit = projection(generator)(images)
        layer = projection(wide, value_range=(-2.0, 6.0))
        np.testing.assert_allclose(layer(8 * images - 2), 8 * unit - 2, atol=1e-3)

    def test_more_restarts_are_never_worse(self, generator, images):
        errors = [
            mean_squares(
                projection(generator, restarts=restarts, steps=4)(images), images
            )
            for restarts in (1, 2, 5)
        ]
        assert (np.diff(errors, axis=0) <= 1e-6).all()
        assert np.any(errors[0] > errors[2] + 1e-4)

    def test_a_batch_of_one_and_a_last_partial_batch(self, generator, images):
        net = small_net(front=[projection(generator)])
        for count in (1, 5):
            found = net.predict(images[:count], batch_size=4, verbose=0)
            assert found.shape == (count, 3)

    def test_every_step_can_be_differentiated(self, images):
        generator = small_generator(activation="linear")
        # With a single step, from zero momentum: z1 = z0 - rate * slope at z0.
        layer = projection(
            generator, steps=1, restarts=1, learning_rate=0.01, gradient="unrolled"
        )
        x, move = tf.constant(images), np.zeros_like(images)
        move[:, 2, 3] = 0.05

        def summed(batch):
            with draw_scope(make_key(1)):
                return tf.reduce_sum(tf.square(layer(batch)), axis=[1, 2, 3])

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = summed(x)
        slope = tape.gradient(value, x)
        change = (summed(x + move) - summed(x - move)) / 0.1
        np.testing.assert_allclose(slope[:, 2, 3, 0], change, rtol=0.05, atol=1e-4)
        assert np.abs(slope).max() < 0.5, "that is the identity's"

    # In the gate the contract compiles a training step with them.
    @pytest.mark.nightly
    def test_unrolled_gradients_agree_in_every_mode(self, generator, images):
        layer = projection(generator, learning_rate=1.0, gradient="unrolled")

        def slope(x):
            with draw_scope(make_key(1)), tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(tf.square(layer(x)))
            return tape.gradient(value, x)

        eager = slope(tf.constant(images))
        for jit in (False, True):
            unknown = [tf.TensorSpec([None, 8, 8, 1])]
            traced = tf.function(slope, jit_compile=jit, input_signature=unknown)
            np.testing.assert_allclose(traced(images), eager, atol=1e-4)

    @pytest.mark.parametrize("gradient", ["identity", "unrolled"])
    def test_fit_leaves_the_generator_alone(self, gradient, generator, digits):
        layer = projection(generator, gradient=gradient, steps=3)
        net = small_net(front=[layer])
        net.trainable = True
        assert not layer.trainable_variables
        before = weights_of(generator)
        net.compile("adam", sparse_loss(), jit_compile=True)
        net.fit(digits.x_train[:16], digits.y_train[:16], batch_size=8, verbose=0)
        for old, new in zip(before, weights_of(generator), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_batch_normalisation_stands_still(self, images):
        generator = small_generator()
        generator.add(keras.layers.BatchNormalization())
        layer = projection(generator)
        before = weights_of(generator)
        layer(images, training=True)
        for old, new in zip(before, weights_of(generator), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_losses_of_the_generator_do_not_leak(self, images):
        regular = small_generator()
        regular.add(keras.layers.ActivityRegularization(l2=1.0))
        net = small_net(front=[projection(regular)])
        net.compile("sgd", sparse_loss())
        net.fit(images, np.zeros(6), batch_size=3, verbose=0)
        assert net.losses == []

    def test_saved_with_its_generator(self, generator, images, tmp_path):
        net = small_net(front=[projection(generator)])
        generator.layers[0].kernel.assign(generator.layers[0].kernel * 0.5)
        net.save(tmp_path / "net.keras")
        copy = keras.models.load_model(tmp_path / "net.keras", safe_mode=True)
        kernel = copy.layers[0].generator.layers[0].kernel
        np.testing.assert_array_equal(kernel, generator.layers[0].kernel)
        assert not copy.layers[0].trainable_variables
        np.testing.assert_array_equal(net(images), copy(images))

    def test_exported_with_its_generator(self, generator, made, tmp_path):
        # What is loaded draws its own starts: enough that one of them leads home.
        layer = projection(generator, steps=100, restarts=40)
        net = keras.Sequential([keras.Input((8, 8, 1)), layer])
        net.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(str(tmp_path / "served"))
        assert np.max(mean_squares(served.serve(made), made)) < 2e-3

    def test_inactive_in_training(self, generator, images):
        layer = projection(generator, active="inference")
        np.testing.assert_array_equal(layer(images, training=True), images)
        assert np.abs(layer(images, training=False) - images).max() > 0.1

    def test_exact_while_the_model_is_in_bfloat16(self, generator, images):
        net = small_net(front=[projection(generator)])
        with in_bfloat16(net):
            dtypes = {each.compute_dtype for each in flat_layers(net.layers[0])}
            assert net.layers[1].compute_dtype == "bfloat16"
        assert dtypes == {"float32"}

    def test_attacks_go_through(self, digits, trained_net):
        net = keras.Sequential(
            [keras.Input((8, 8, 1)), projection(small_generator()), trained_net]
        )
        images = digits.x_test[:8]
        attack = PGD(0.1, steps=3)
        found = attack.generate(net, images, digits.y_test[:8], seed=0, verbose=0)
        assert np.abs(found - images).max() > 0.05

    def test_rejects(self, generator, images):
        name = "`GenerativeProjection` expects"
        for argument, value in (
            ("steps", 0),
            ("restarts", 0),
            ("learning_rate", 0.0),
            ("momentum", 1.0),
            ("momentum", -0.1),
            ("gradient", "soft"),
        ):
            with pytest.raises(ValueError, match=f"{name} `{argument}`"):
                GenerativeProjection(generator, **{argument: value})
        with pytest.raises(ValueError, match=rf"{name} `generator`.*latent_dim"):
            GenerativeProjection(small_net())
        flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(9)])
        with pytest.raises(ValueError, match=rf"{name} `generator`.*returns images"):
            GenerativeProjection(flat)
        with pytest.raises(ValueError, match=r"shape \(None, 8, 8, 1\)\. Received"):
            projection(generator)(images[:, :7])

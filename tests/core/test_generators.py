import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.generators import (
    check_critic,
    latent_search,
    latent_shapes,
    mean_squares,
)
from keras_advdef.core.random_numbers import fold_in, make_key, normal
from tests.support.generators import small_generator
from tests.support.kernels import missing_kernels

DIMENSION = 3


@pytest.fixture
def made():
    """A generator, and images it makes from known latents."""
    generator = small_generator(latent_dim=DIMENSION)
    latents = normal(make_key(9), [5, DIMENSION])
    return generator, generator(latents)


@pytest.fixture
def linear():
    """`G(z) = A z + b` on images of 2 x 3 x 1, far from zero."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(6, DIMENSION)).astype("float32")
    bias = generator.normal(size=6).astype("float32")

    def generate(latents):
        return tf.reshape(latents @ matrix.T + bias, [-1, 2, 3, 1])

    return generate, matrix, bias


def search(generate, images, *, seed=0, **changes):
    arguments = {
        "latent_dim": DIMENSION,
        "steps": 20,
        "restarts": 4,
        "learning_rate": 2.0,
        "momentum": 0.7,
    }
    return latent_search(generate, images, make_key(seed), **{**arguments, **changes})


def starts(seed, restart, count):
    drawn = normal(fold_in(make_key(seed), restart), [count, DIMENSION]).numpy()
    return drawn * DIMENSION**-0.5


def some_images(count=4, shape=(2, 3, 1)):
    drawn = np.random.default_rng(1).normal(size=(count, *shape))
    return tf.constant(drawn, tf.float32)


class TestLatentSearch:
    def test_finds_what_the_generator_has_made(self, made):
        generator, images = made
        found = search(generator, images, steps=200, restarts=10, learning_rate=10.0)
        assert np.max(found.errors) < 1e-3
        np.testing.assert_array_equal(found.images, generator(found.latents))
        again = mean_squares(found.images, images)
        np.testing.assert_array_equal(found.errors, again)

    def test_linear_generator_is_least_squares(self, linear):
        generate, matrix, bias = linear
        images = some_images()
        found = search(generate, images, steps=400, restarts=2, learning_rate=0.3)
        rest = np.reshape(images, (4, 6)) - bias
        wanted = np.linalg.lstsq(matrix, rest.T, rcond=None)[0].T
        # Near a minimum, the errors of points this far apart differ only by rounding.
        np.testing.assert_allclose(found.latents, wanted, atol=2e-3)
        left = ((rest - wanted @ matrix.T) ** 2).mean(axis=1)
        np.testing.assert_allclose(found.errors, left, atol=1e-5)

    @pytest.mark.parametrize("learning_rate", [0.5, 3.0])
    def test_equal_to_a_loop_written_out(self, linear, learning_rate):
        generate, matrix, bias = linear
        images, restarts, steps = some_images(), 3, 7
        flat = np.reshape(images, (4, 6))
        best, lowest = np.zeros((4, DIMENSION)), np.full(4, np.inf)
        for restart in range(restarts):
            latents = starts(5, restart, 4).astype("float64")
            velocity = 0.0
            for _ in range(steps + 1):
                rest = latents @ matrix.T + bias - flat
                errors = (rest**2).mean(axis=1)
                best = np.where((errors < lowest)[:, None], latents, best)
                lowest = np.minimum(lowest, errors)
                velocity = 0.6 * velocity - learning_rate * (2 / 6) * rest @ matrix
                latents = latents + velocity
        found = search(
            generate,
            images,
            seed=5,
            steps=steps,
            restarts=restarts,
            learning_rate=learning_rate,
            momentum=0.6,
        )
        np.testing.assert_allclose(found.latents, best, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.errors, lowest, rtol=1e-4)

    def test_starts_have_the_variance_of_a_unit_vector(self):
        # No point is nearer than the start if the generator ignores its latents,
        # except for a term with zero slope there.
        count, dimension = 200, 50
        found = latent_search(
            lambda latents: tf.reshape(0.0 * latents, [-1, 5, 10, 1]),
            tf.zeros((count, 5, 10, 1)),
            make_key(0),
            latent_dim=dimension,
            steps=1,
            restarts=1,
            learning_rate=1.0,
            momentum=0.0,
        )
        lengths = np.sum(np.square(found.latents), axis=1)
        assert np.mean(lengths) == pytest.approx(1.0, abs=0.05)
        assert np.mean(found.latents) == pytest.approx(0.0, abs=0.01)

    def test_more_restarts_are_never_worse(self, made):
        generator, _ = made
        images = np.random.default_rng(3).uniform(0, 1, (6, 8, 8, 1))
        images = tf.constant(images, tf.float32)
        errors = np.stack(
            [
                search(generator, images, restarts=restarts, steps=5).errors
                for restarts in (1, 2, 3, 6, 10)
            ]
        )
        assert (np.diff(errors, axis=0) <= 1e-6).all()
        assert (errors[-1] < errors[0] - 1e-4).any()

    def test_never_worse_than_the_best_start(self, linear):
        generate, _, _ = linear
        images = some_images()
        # Such a long step leads away from everything.
        found = search(generate, images, steps=30, learning_rate=50.0)
        begun = [mean_squares(generate(starts(0, r, 4)), images) for r in range(4)]
        np.testing.assert_allclose(found.errors, np.min(begun, axis=0), rtol=1e-5)
        assert len({*np.argmin(begun, axis=0)}) > 1

    def test_each_image_has_its_own_best_restart(self, made):
        generator, images = made
        alone = [
            search(generator, images, restarts=restarts, steps=3).errors.numpy()
            for restarts in range(1, 7)
        ]
        # The best restart differs between images.
        last = [np.flatnonzero(np.isclose(alone, alone[-1])[:, i])[0] for i in range(5)]
        assert len({*last}) > 1

    @pytest.mark.parametrize("chunk", [1, 2, 3, 4])
    def test_chunks_change_nothing(self, chunk, made):
        generator, images = made
        whole = search(generator, images, chunk=4)
        found = search(generator, images, chunk=chunk)
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_memory_is_bounded(self):
        rows = []

        def generate(latents):
            rows.append(latents.shape[0])
            return tf.tile(latents[:, :1, None, None], [1, 256, 512, 1])

        images = tf.zeros((2, 256, 512, 1))
        search(generate, images, steps=1, restarts=5)
        # 2**19 values: two restarts of two images of 2**17 values.
        assert max(rows) == 4

    def test_a_start_that_diverges_harms_no_other(self, linear):
        generate, _, _ = linear
        limit = np.abs(starts(0, 0, 4)).max(axis=1)

        def generate_or_fail(latents):
            large = tf.reduce_max(tf.abs(latents), axis=1)[:, None, None, None]
            return tf.where(large > limit.min(), np.nan, generate(latents))

        found = search(generate_or_fail, some_images(), steps=5, restarts=9)
        assert np.isfinite(found.latents).all()
        assert np.isfinite(found.errors).any()

    def test_agrees_in_every_mode(self, made):
        generator, images = made

        def call(images, key):
            return latent_search(
                generator,
                images,
                key,
                latent_dim=DIMENSION,
                steps=10,
                restarts=3,
                learning_rate=2.0,
                momentum=0.7,
            )

        eager = call(images, make_key(2))
        unknown = [tf.TensorSpec([None, 8, 8, 1]), tf.TensorSpec([2], tf.int64)]
        for jit in (False, True):
            traced = tf.function(call, jit_compile=jit, input_signature=unknown)
            for one, other in zip(traced(images, make_key(2)), eager, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)
            assert traced(images[:1], make_key(2)).images.shape == (1, 8, 8, 1)

    def test_same_key_same_result(self, made):
        generator, images = made
        one, again, other = (
            search(generator, images, seed=seed).latents for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, again)
        assert np.any(one != other)

    def test_gradients_pass_every_step(self, linear):
        generate, matrix, _ = linear
        images, rate, steps = some_images(1), 0.2, 8
        arguments = {"learning_rate": rate, "momentum": 0.0, "restarts": 1}
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            found = search(generate, images, steps=steps, **arguments)
        slopes = tape.jacobian(found.latents, images, experimental_use_pfor=False)
        # Each step is z - rate * 2 / 6 * A' (A z + b - x), and leads further down.
        shrink = np.eye(DIMENSION) - rate / 3 * matrix.T @ matrix
        powers = [np.linalg.matrix_power(shrink, index) for index in range(steps)]
        wanted = np.sum(powers, axis=0) @ matrix.T * rate / 3
        np.testing.assert_allclose(np.reshape(slopes, wanted.shape), wanted, atol=1e-5)

    def test_runs_wholly_on_an_accelerator(self, made):
        generator, images = made
        assert missing_kernels(lambda x: search(generator, x, steps=3), images) == {}

    @pytest.mark.parametrize("shape", [(33, 17, 1), (1, 1, 3)])
    def test_any_size(self, shape):
        generator = small_generator(shape, latent_dim=DIMENSION)
        images = np.random.default_rng(0).uniform(0, 1, (2, *shape))
        found = search(generator, tf.constant(images, tf.float32))
        assert found.images.shape == (2, *shape)
        assert found.errors.shape == (2,)


def test_mean_squares_of_each_image():
    images = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype("float32")
    found = mean_squares(images, np.ones_like(images))
    np.testing.assert_allclose(found, ((images - 1) ** 2).mean((1, 2, 3)), rtol=1e-5)


def _generator(latents=(5,), *, shape=(2, 2, 3)):
    layers = keras.layers
    dense, reshape = layers.Dense(math.prod(shape)), layers.Reshape(shape)
    return keras.Sequential([keras.Input(latents), layers.Flatten(), dense, reshape])


def _critic(shape=(2, 2, 3), *, units=1):
    layers = keras.layers
    return keras.Sequential(
        [keras.Input(shape), layers.GlobalAveragePooling2D(), layers.Dense(units)]
    )


def _two_inputs():
    inputs = [keras.Input((2,)), keras.Input((2,))]
    added = keras.layers.Add()(inputs)
    return keras.Model(inputs, keras.layers.Reshape((1, 2, 1))(added))


def test_shapes_of_sequential_and_functional_models():
    generator = _generator()
    assert latent_shapes("Owner", generator) == (5, (2, 2, 3))
    inputs = keras.Input((5,))
    functional = keras.Model(inputs, generator(inputs))
    assert latent_shapes("Owner", functional) == (5, (2, 2, 3))


@pytest.mark.parametrize(
    ("generator", "rule"),
    [
        (lambda: None, "a built `keras.Sequential`.*Received: generator=None"),
        (lambda: keras.Sequential([keras.layers.Dense(1)]), "Start it with a"),
        (lambda: _generator((2, 5)), r"of latents.*generator=\(None, 2, 5\)"),
        (_two_inputs, "of latents"),
        (lambda: _generator(shape=(12,)), r"returns images.*generator=\(None, 12\)"),
    ],
)
def test_rejects_models_that_are_not_generators(generator, rule):
    with pytest.raises(ValueError, match=f"`Owner` expects `generator` to be .*{rule}"):
        latent_shapes("Owner", generator())


@pytest.mark.parametrize("shape", [(2, 2, 3), (None, None, 3)])
def test_critics_that_fit_pass(shape):
    check_critic("Owner", _critic(shape), (2, 2, 3))


@pytest.mark.parametrize(
    ("critic", "rule"),
    [
        (lambda: "critic", "a built `keras.Sequential`"),
        (lambda: _critic((2, 2, 1)), r"\(batch, 2, 2, 3\).*critic=\(None, 2, 2, 1\)"),
        (_two_inputs, "of the generator's images"),
        (lambda: _critic(units=2), r"ends in one unit, .*critic=\(None, 2\).*Dense"),
    ],
)
def test_rejects_models_that_are_not_critics(critic, rule):
    with pytest.raises(ValueError, match=f"`Owner` expects `critic` to be .*{rule}"):
        check_critic("Owner", critic(), (2, 2, 3))

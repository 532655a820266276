import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.model_view import ModelView
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._plan.true_gradients import (
    TrueGradients,
    measure_true_gradients,
)
from keras_advdef.layers import RandomNoise

UNIT = ValueRange.parse("test", (0.0, 1.0))
WEIGHTS = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(0.3, 0.7, (12, 4, 4, 3)).astype(np.float32)
LABELS = np.arange(12) % 3


def linear(images):
    return tf.reshape(images, (-1, 48)) @ WEIGHTS


def curved(images):
    return linear(tf.square(images))


def disguised(function, gradient):
    """A function with the gradient of another one."""
    return lambda images: (
        gradient(images) + tf.stop_gradient(function(images) - gradient(images))
    )


def measure(model, *, norm="linf", epsilon=0.1, pixels=UNIT, images=IMAGES):
    return measure_true_gradients(
        model if isinstance(model, ModelView) else ModelView(model),
        images,
        LABELS[: len(images)],
        epsilon=epsilon,
        norm=norm,
        value_range=pixels,
        batch_size=8,
        seed=3,
    )


@pytest.fixture(scope="module")
def of_linear():
    return measure(linear)


class TestMeasureTrueGradients:
    def test_linear_model_keeps_all_that_is_promised(self, of_linear):
        assert of_linear.kept == pytest.approx(np.ones((12, 2)), abs=2e-3)
        assert of_linear.best.tolist() == [1.0] * 12
        assert of_linear.settled.all()
        assert not of_linear.is_false.any()

    @pytest.mark.parametrize(("norm", "epsilon"), [("l2", 1.0), ("l1", 1.0)])
    def test_other_norms(self, norm, epsilon):
        found = measure(curved, norm=norm, epsilon=epsilon)
        assert not found.is_false.any()
        # The square of a pixel has no more than twice the slope a full step further.
        assert (np.abs(found.kept - 1.0) < 0.3).all()

    def test_range_of_the_pixels_does_not_matter(self, of_linear):
        wide = ValueRange.parse("test", (0, 255))
        found = measure(
            lambda images: linear(images / 255.0),
            epsilon=25.5,
            pixels=wide,
            images=255.0 * IMAGES,
        )
        assert found.kept == pytest.approx(of_linear.kept, abs=2e-3)

    @pytest.mark.parametrize(
        "gradient",
        [
            lambda images: -linear(images),
            lambda images: tf.reshape(images, (-1, 48)) @ WEIGHTS[::-1],
            lambda images: tf.sin(1e3 * linear(images)),
        ],
        ids=["flipped", "of another model", "random"],
    )
    def test_false_gradients(self, gradient):
        assert measure(disguised(linear, gradient)).is_false.mean() > 0.9

    def test_blurred_gradients_still_lead_upwards(self):
        """Each pixel gets the mean gradient of its row and its neighbours' rows."""

        @tf.custom_gradient
        def blurred(images):
            def gradient(upstream):
                return tf.nn.avg_pool2d(upstream, 3, 1, "SAME")

            return tf.identity(images), gradient

        found = measure(lambda images: linear(blurred(images)))
        # Steps along it gain what it promises, and most random ones gain less.
        assert found.best.mean() > 0.7
        assert ((found.kept > 0.6) & (found.kept < 1.7)).all()
        assert (found.agrees < 0.8).all()
        assert found.is_false.all()

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_steps_in_random_directions_gain_what_is_promised(self, norm):
        found = measure(
            curved, norm=norm, epsilon={"linf": 0.1, "l2": 0.7, "l1": 4}[norm]
        )
        assert found.agrees == pytest.approx(1.0, abs=0.05)

    def test_rounding_decides_nothing(self):
        def rounded(images):
            logits = tf.cast(1e3 + 1e-3 * linear(images), tf.float16)
            return tf.cast(logits, tf.float32)

        assert (measure(rounded).agrees == 1.0).all()
        # Nor do pixels that nothing depends on.
        assert (measure(lambda images: 0.0 * linear(images)).agrees == 1.0).all()

    def test_missing_gradients(self):
        view = ModelView(linear, has_gradient=False)
        assert measure(view).is_false.all()

    def test_hard_scores_with_their_own_soft_gradient(self):
        def hard(images):
            return tf.one_hot(tf.argmax(linear(images), axis=-1), 3)

        assert measure(disguised(hard, linear)).is_false.all()

    @pytest.mark.parametrize("frequency", [700.0, 5000.0])
    def test_true_gradients_that_lead_nowhere(self, frequency):
        found = measure(
            lambda images: linear(images + 0.1 * tf.sin(frequency * images))
        )
        assert found.is_false.mean() > 0.8

    def test_mask_of_some_images(self):
        masked = disguised(linear, lambda images: -linear(images))

        def sometimes(images):
            is_third = tf.argmax(linear(images), axis=-1)[:, None] == 2
            return tf.where(is_third, masked(images), linear(images))

        images = np.concatenate([IMAGES, IMAGES, IMAGES])[:12]
        third = linear(images).numpy().argmax(axis=-1) == 2
        found = measure(sometimes, images=images, epsilon=0.004).is_false
        assert found.tolist() == third.tolist()

    def test_random_model_draws_alike_everywhere(self):
        noise = RandomNoise(0.2)
        found = measure(lambda images: curved(noise(images)))
        assert found.settled.all()
        assert not found.is_false.any()

    def test_draws_that_nothing_fixes(self):
        def free(images):
            return linear(images) + tf.random.normal((1, 3))

        found = measure(free)
        assert not found.settled.any()
        assert not found.is_false.any()

    def test_same_seed_same_result(self, of_linear):
        again = measure(linear)
        assert np.array_equal(again.kept, of_linear.kept)


def test_bounds_of_what_a_step_keeps():
    found = TrueGradients(
        kept=np.array([[1.0, 1.0], [0.3, 1.0], [3.1, 1.0], [1.0, 0.4], [1.0, 2.6]]),
        best=np.ones(5),
        agrees=np.ones(5),
        settled=np.ones(5, bool),
    )
    assert found.is_false.tolist() == [False, True, True, True, True]


def test_bound_of_what_random_steps_gain():
    found = TrueGradients(
        kept=np.ones((2, 2)),
        best=np.ones(2),
        agrees=np.array([0.79, 0.81]),
        settled=np.ones(2, bool),
    )
    assert found.is_false.tolist() == [True, False]

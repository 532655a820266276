import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._verdict.steadiness import check_steadiness
from keras_advdef.layers import RandomNoise

IMAGES = np.random.default_rng(0).uniform(size=(10, 2, 2, 1)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def linear(images):
    return tf.reshape(images, (-1, 4)) @ WEIGHTS


@pytest.fixture
def steadiness_of():
    def check(model, *, between=0, is_random=False, batch_size=4):
        pixels = ValueRange.parse("test", (0, 1))
        judge = Judge(model, value_range=pixels, batch_size=batch_size)
        before = judge.logits(IMAGES, 5)
        for _ in range(between):
            judge.logits(IMAGES, 6)
        return check_steadiness(judge, IMAGES, before, seed=5, is_random=is_random)

    return check


@pytest.mark.parametrize("batch_size", [1, 4, 10, 64])
def test_steady(steadiness_of, batch_size):
    check = steadiness_of(linear, batch_size=batch_size)
    assert check.passed
    assert check.detail == (
        "The model answers as it did before the attacks, also for images in another "
        "order and alone."
    )


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_rounding_is_relative(steadiness_of, scale):
    def rounded(images):
        # Half precision, as a batch of another size might round it.
        return tf.cast(tf.cast(scale * linear(images) / scale, tf.float16), tf.float32)

    assert steadiness_of(lambda images: scale * rounded(images)).passed


def test_history(steadiness_of):
    calls = tf.Variable(0.0)

    def aging(images):
        calls.assign_add(1.0)
        # Not before the first look has ended.
        return linear(images) * tf.where(calls > 6.0, -1.0, 1.0)

    check = steadiness_of(aging, between=4)
    assert check.passed is False
    assert check.detail.startswith("The logits of 8 of 8 clean images are others")


@pytest.mark.parametrize(
    ("model", "how"),
    [
        (lambda x: linear(x - tf.reduce_mean(x, axis=0)), "alone"),
        (
            lambda x: (
                linear(x)
                * tf.range(1.0, 1.0 + tf.cast(tf.shape(x)[0], tf.float32))[:, None]
            ),
            "in another order",
        ),
    ],
    ids=["other images of the batch", "place in the batch"],
)
def test_company(steadiness_of, model, how):
    check = steadiness_of(model)
    assert check.passed is False
    assert how in check.detail or "of 8 clean images" in check.detail


def test_declared_randomness_can_be_repeated(steadiness_of):
    noise = RandomNoise(0.1)
    check = steadiness_of(lambda images: linear(noise(images)), is_random=True)
    assert check.passed
    assert check.detail == "The model answers as it did before the attacks."


def test_free_randomness_cannot(steadiness_of):
    def free(images):
        return linear(images) + tf.random.normal((1, 3))

    check = steadiness_of(free, is_random=True)
    assert check.passed is None
    assert "cannot be repeated" in check.detail


def test_nan_is_no_answer(steadiness_of):
    calls = tf.Variable(0.0)

    def failing(images):
        calls.assign_add(1.0)
        return linear(images) + tf.where(calls > 3.0, np.nan, 0.0)

    assert steadiness_of(failing).passed is False

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.cards import card_of
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._verdict.roughness import check_roughness
from keras_advdef.layers import BitDepthReduction
from tests.support.nets import small_net

_RNG = np.random.default_rng(0)
_MATRIX = _RNG.normal(size=(64, 3)).astype("float32")
_BRIGHT = 0.3


def smooth(images):
    """Logits that are linear in the pixels."""
    return tf.reshape(images, (-1, 64)) @ _MATRIX


def saw(images):
    """The same behind teeth that are five steps of 0.01 epsilon wide."""
    return smooth(images + 0.1 * (tf.math.floormod(images / 0.005, 1.0) - 0.5))


def steps(images):
    """Pixels that are rounded to three bits, with the gradient of the others."""
    return smooth(images + tf.stop_gradient(tf.round(7 * images) / 7 - images))


def partly(images):
    """Rough around images whose first pixel is bright."""
    is_bright = images[:, 0, 0] > _BRIGHT
    return tf.where(is_bright, saw(images), smooth(images))


def half(images):
    """Logits in float16, far from zero."""
    return tf.cast(tf.cast(smooth(images) + 400.0, tf.float16), tf.float32)


def noisy(images):
    found = smooth(images)
    return found + tf.random.normal(tf.shape(found))


@pytest.fixture
def check(make_request, make_judge, make_probe_result):
    def run(model, *, count=30, labels=None, probed=None, **changes):
        images = np.random.default_rng(1).uniform(0.2, 0.8, (count, 8, 8, 1))
        images[:, 0, 0] = 0.1
        if labels is not None:
            images[labels == 0, 0, 0] = 0.6
        labels = np.arange(count) % 3 if labels is None else labels
        settings = {"model": model, "images": images, "labels": labels, **changes}
        request = make_request(**settings)
        return check_roughness(
            request,
            make_probe_result(**probed or {}),
            make_judge(request),
            labels=labels,
            ledger=Ledger(None, {}, Progress()),
            progress=Progress(),
        )

    return run


class TestCheckRoughness:
    @pytest.mark.parametrize(
        ("norm", "epsilon"), [("linf", 0.1), ("l2", 0.8), ("l1", 6.4)]
    )
    def test_smooth_and_rough(self, norm, epsilon, check):
        found = check(smooth, norm=norm, epsilon=epsilon)
        assert found.passed
        assert "around 0 of 30 images" in found.detail
        found = check(saw, norm=norm, epsilon=epsilon)
        assert found.passed is False
        assert "around 30 of 30 images" in found.detail

    def test_a_linear_margin_changes_in_proportion(self, check):
        two = check(lambda images: smooth(images)[:, :2], labels=np.arange(30) % 2)
        assert " by 0.01 times as much" in two.detail

    @pytest.mark.parametrize("value_range", [(0, 1), (-1, 1)])
    def test_rounded_pixels(self, value_range, check):
        assert check(steps, value_range=value_range).passed is False

    def test_nets(self, check, trained_net):
        assert check(trained_net).passed
        assert check(small_net()).passed

    def test_rounding_of_declared_defences_is_named(self, check):
        cards = {"BitDepthReduction": card_of(BitDepthReduction)}
        found = check(steps, probed={"cards": cards})
        assert found.passed
        assert "That is due to BitDepthReduction" in found.detail

    def test_one_class_alone(self, check):
        labels = np.repeat([0, 1, 2], [4, 23, 23])
        found = check(partly, count=50, labels=labels)
        assert found.passed is False
        assert "around 4 of 50 images, most of them of class 0." in found.detail

    def test_two_images_may_be_chance(self, check):
        labels = np.repeat([0, 1], [2, 8])
        found = check(partly, count=10, labels=labels)
        assert found.passed
        assert "around 2 of 10" in found.detail

    def test_half_precision_may_round(self, check):
        assert check(half).passed is False
        inputs = keras.Input((8, 8, 1))
        layer = keras.layers.Lambda(half, output_shape=(3,), dtype="mixed_float16")
        assert check(keras.Model(inputs, layer(inputs))).passed

    def test_not_run(self, check):
        constant = check(lambda images: 0.0 * smooth(images))
        assert constant.passed is None
        assert constant.detail.startswith("Not run: steps across the ball do not")
        few = check(saw, count=9)
        assert few.passed is None
        assert few.detail == "Not run: it takes 10 images, and there are 9."
        random = check(noisy)
        assert random.passed is None
        assert random.detail.startswith("Not run: two runs on the same images differ")

    def test_images_without_an_answer_do_not_count(self, check):
        def model(images):
            is_bright = images[:, 0, 0] > _BRIGHT
            return tf.where(is_bright, np.nan, smooth(images))

        labels = np.repeat([0, 1, 2], [10, 10, 10])
        assert "around 0 of 20 images" in check(model, labels=labels).detail

    def test_same_for_the_same_seed_and_any_batch(self, check):
        first = check(steps, seed=3).detail
        assert check(steps, seed=3).detail == first
        assert check(steps, seed=4).detail != first
        assert check(steps, seed=3, batch_size=7).detail == first

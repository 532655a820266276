import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.training.wasserstein_gan import check_images, images_in, split_batch

SHAPE = (2, 3, 1)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((4, *SHAPE)),
        tf.data.Dataset.from_tensors(np.zeros((4, *SHAPE))),
        tf.data.Dataset.from_tensors((np.zeros((4, *SHAPE)), np.zeros(4))),
        iter([np.zeros((4, *SHAPE))]),
    ],
    ids=["array", "data set", "with labels", "iterator"],
)
def test_images_that_fit_pass(x):
    check_images("Owner", x, SHAPE)


@pytest.mark.parametrize(
    ("x", "rule"),
    [
        (np.zeros((4, 3, 2, 1)), r"as the generator's, \(batch, 2, 3, 1\)"),
        (tf.data.Dataset.from_tensors(np.zeros((4, 3))), "as the generator's"),
        (np.full((4, *SHAPE), 200.0), r"0.*1"),
    ],
    ids=["turned", "flat", "bytes"],
)
def test_others_are_refused(x, rule):
    with pytest.raises(ValueError, match=f"`Owner` expects `images` .*{rule}"):
        check_images("Owner", x, SHAPE)


def test_labels_are_left_out():
    images = np.full((2, *SHAPE), 7, "uint8")
    found = images_in((images, np.zeros(2)), SHAPE)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (6, [[0, 1], [2, 3], [4, 5]]),
        (5, [[0, 1], [2, 3], [4, 0]]),
        (1, [[0], [0], [0]]),
    ],
)
def test_parts_have_one_size(batch, expected):
    images = tf.reshape(tf.range(float(batch)), (batch, 1, 1, 1))
    np.testing.assert_array_equal(split_batch(images, 3)[:, :, 0, 0, 0], expected)

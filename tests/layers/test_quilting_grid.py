import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_advdef.layers._quilting import grid_patches, patch_starts


@pytest.mark.parametrize(
    ("size", "starts"),
    [
        (5, (0,)),
        (6, (0, 1)),
        (8, (0, 3)),
        (17, (0, 3, 6, 9, 12)),
        (28, (0, 3, 6, 9, 12, 15, 18, 21, 23)),
        (32, (0, 3, 6, 9, 12, 15, 18, 21, 24, 27)),
    ],
)
def test_starts(size, starts):
    assert patch_starts(size, 5, 2) == starts


@settings(max_examples=200, deadline=None)
@given(patch_size=st.integers(1, 9), extra=st.integers(0, 40), data=st.data())
def test_patches_cover_the_axis_and_share_enough(patch_size, extra, data):
    overlap = data.draw(st.integers(0, patch_size - 1))
    starts = np.array(patch_starts(patch_size + extra, patch_size, overlap))
    shared = starts[:-1] + patch_size - starts[1:]
    assert starts[0] == 0
    assert starts[-1] == extra
    assert (np.diff(starts) > 0).all()
    assert (shared[:-1] == overlap).all()
    assert (shared >= overlap).all()


def test_patches_are_windows_row_by_row():
    images = np.random.default_rng(0).uniform(size=(2, 9, 7, 3)).astype("float32")
    patches = grid_patches(tf.constant(images), 4, 1).numpy()
    expected = [
        images[:, top : top + 4, left : left + 4].reshape(2, -1)
        for top in (0, 3, 5)
        for left in (0, 3)
    ]
    np.testing.assert_array_equal(patches, np.stack(expected, axis=1))

import numpy as np
import pytest

from keras_advdef.core.batches import block_size, padded


def test_padding_repeats_rows():
    rows = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(padded(rows, 5), rows[[0, 1, 2, 0, 1]])
    assert padded(rows, 3) is rows


@pytest.mark.parametrize(
    ("rows", "size"), [(1, 16), (16, 16), (17, 32), (64, 64), (65, 128), (128, 128)]
)
def test_block_is_the_smallest_of_four(rows, size):
    assert block_size(rows, 128) == size

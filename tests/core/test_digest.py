import hashlib

import numpy as np
import pytest

from keras_advdef.core.digest import array_digest

_ARRAY = np.arange(6, dtype=np.float32)


def test_is_that_of_shape_type_and_bytes():
    expected = hashlib.sha256(b"(6,)float32" + _ARRAY.tobytes()).hexdigest()
    assert array_digest(_ARRAY) == expected


@pytest.mark.parametrize(
    "other",
    [
        (_ARRAY.reshape(2, 3),),
        (_ARRAY.astype(np.float64),),
        (_ARRAY[::-1],),
        (_ARRAY[:3], _ARRAY[3:]),
    ],
    ids=["shape", "type", "order", "parts"],
)
def test_tells_arrays_apart(other):
    assert array_digest(*other) != array_digest(_ARRAY)


def test_does_not_depend_on_the_layout_in_memory():
    square = _ARRAY.reshape(2, 3)
    assert array_digest(np.asfortranarray(square)) == array_digest(square)


def test_takes_empty_arrays_and_scalars():
    assert array_digest(np.zeros((0, 3))) != array_digest(np.zeros((0, 2)))
    assert array_digest(np.float32(1.0)) != array_digest(np.float32(2.0))

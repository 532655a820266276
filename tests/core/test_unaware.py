import numpy as np
import pytest

from keras_advdef.core.unaware import is_unaware, unaware_of_defences
from keras_advdef.layers import VariationalLayer
from tests.support.cases import LAYERS, made
from tests.support.threads import in_other_thread


def test_scope_ends_with_its_body():
    with unaware_of_defences():
        with unaware_of_defences():
            assert is_unaware()
        assert is_unaware()
    assert not is_unaware()


def test_scope_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), unaware_of_defences():
        raise ZeroDivisionError
    assert not is_unaware()


def test_scope_is_local_to_its_thread():
    with unaware_of_defences():
        assert not in_other_thread(is_unaware)
        assert is_unaware()


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_layers_stand_aside(cls, arguments, images):
    layer = made(cls, arguments, images)
    with unaware_of_defences():
        first, second = layer(images).numpy(), layer(images).numpy()
    np.testing.assert_array_equal(first, second)
    # A convolution may have the shape of its input too.
    if first.shape == images.shape and not isinstance(layer, VariationalLayer):
        np.testing.assert_allclose(first, images, atol=1e-6)
    assert not np.array_equal(layer(images), first)

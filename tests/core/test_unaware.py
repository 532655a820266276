import numpy as np
import pytest

from keras_advdef.core.gradients import are_defences_bypassed, bypass_defences
from keras_advdef.layers import VariationalLayer
from tests.support.cases import LAYERS, made
from tests.support.threads import in_other_thread


def test_scope_ends_with_its_body():
    with bypass_defences():
        with bypass_defences():
            assert are_defences_bypassed()
        assert are_defences_bypassed()
    assert not are_defences_bypassed()


def test_scope_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), bypass_defences():
        raise ZeroDivisionError
    assert not are_defences_bypassed()


def test_scope_is_local_to_its_thread():
    with bypass_defences():
        assert not in_other_thread(are_defences_bypassed)
        assert are_defences_bypassed()


@pytest.mark.parametrize(("cls", "arguments"), LAYERS)
def test_layers_stand_aside(cls, arguments, images):
    layer = made(cls, arguments, images)
    with bypass_defences():
        first, second = layer(images).numpy(), layer(images).numpy()
    np.testing.assert_array_equal(first, second)
    # A convolution may have the shape of its input too.
    if first.shape == images.shape and not isinstance(layer, VariationalLayer):
        np.testing.assert_allclose(first, images, atol=1e-6)
    assert not np.array_equal(layer(images), first)

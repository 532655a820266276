import numpy as np
import pytest

from keras_advdef.evaluation.check_companions import check_companions
from tests.support.nets import linear_net


def _net(classes, bias=0.0):
    return linear_net(np.ones((classes, 2)), np.full(classes, bias))


@pytest.mark.parametrize("name", ["reference", "surrogate"])
class TestCheckCompanions:
    def test_accepts_what_fits(self, make_request, name):
        check_companions(make_request(), classes=2)
        check_companions(make_request(**{name: _net(2)}), classes=2)

    def test_other_classes(self, make_request, name):
        text = f"`{name}` to be a model with 2 classes.*{name}='one with 3'"
        with pytest.raises(ValueError, match=text):
            check_companions(make_request(**{name: _net(3)}), classes=2)

    @pytest.mark.parametrize("bias", [np.nan, np.inf])
    def test_outputs_that_are_not_finite(self, make_request, name, bias):
        with pytest.raises(ValueError, match=f"`{name}` to be a model of finite"):
            check_companions(make_request(**{name: _net(2, bias)}), classes=2)

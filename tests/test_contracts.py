"""Every public layer, attack and objective keeps the contract of its kind."""

import keras
import pytest

import keras_advdef
from tests.support.cases import ABSTRACT, ATTACKS, LAYERS, OBJECTIVES, case_id
from tests.support.check_attack import check_attack
from tests.support.check_layer import check_layer
from tests.support.check_objective import check_objective


@pytest.mark.parametrize(("cls", "arguments"), LAYERS, ids=case_id)
def test_layer(cls, arguments, images):
    check_layer(cls, arguments, images)


@pytest.mark.filterwarnings("ignore:The targeted DLR needs 4 classes")
@pytest.mark.parametrize(("cls", "arguments"), ATTACKS, ids=case_id)
def test_attack(cls, arguments, trained_net, digits):
    check_attack(cls, arguments, trained_net, digits.x_test[:6], digits.y_test[:6])


@pytest.mark.parametrize(("cls", "arguments"), OBJECTIVES, ids=case_id)
def test_objective(cls, arguments, images, labels):
    check_objective(cls, arguments, images, labels)


@pytest.mark.parametrize(
    ("folder", "base", "cases"),
    [
        (keras_advdef.layers, keras.layers.Layer, LAYERS),
        (keras_advdef.attacks, keras_advdef.attacks.Attack, ATTACKS),
        (keras_advdef.objectives, keras_advdef.objectives.Objective, OBJECTIVES),
    ],
)
def test_nothing_public_is_left_out(folder, base, cases):
    exported = [getattr(folder, name) for name in folder.__all__]
    classes = {each for each in exported if isinstance(each, type)}
    public = {cls for cls in classes if issubclass(cls, base)} - ABSTRACT
    assert public == {cls for cls, _ in cases}

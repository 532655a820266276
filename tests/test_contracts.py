"""Every public layer, attack, loss, objective and penalty keeps its contract."""

import sys
from types import ModuleType

import keras
import pytest
import tensorflow as tf

import keras_advdef
from keras_advdef.core import defence
from keras_advdef.core.cards import all_cards
from keras_advdef.evaluation._plan.card_attacks import CARD_ATTACKS
from tests.support import cases
from tests.support.cases import (
    ATTACKS,
    KINDS,
    LAYERS,
    LOSSES,
    OBJECTIVES,
    PENALTIES,
    arguments_of,
    case_id,
    cases_of,
    missing_case,
    public_classes,
    whole_once,
)
from tests.support.check_attack import check_attack
from tests.support.check_attack_loss import check_attack_loss
from tests.support.check_layer import check_layer
from tests.support.check_objective import check_objective
from tests.support.check_penalty import check_penalty

_CASE = ("cls", "arguments", "whole")


@pytest.mark.parametrize(_CASE, whole_once(LAYERS), ids=case_id)
def test_layer(cls, arguments, whole, images):
    check_layer(cls, arguments, images, whole=whole)


@pytest.mark.filterwarnings("ignore:The targeted DLR needs 4 classes")
@pytest.mark.parametrize(_CASE, whole_once(ATTACKS), ids=case_id)
def test_attack(cls, arguments, whole, trained_net, digits):
    images, labels = digits.x_test[:6], digits.y_test[:6]
    check_attack(cls, arguments, trained_net, images, labels, whole=whole)


@pytest.mark.filterwarnings("ignore:The targeted DLR needs 4 classes")
@pytest.mark.parametrize(("cls", "arguments"), LOSSES, ids=case_id)
def test_attack_loss(cls, arguments, images, labels):
    check_attack_loss(cls, arguments, images, labels)


@pytest.mark.parametrize(("cls", "arguments"), OBJECTIVES, ids=case_id)
def test_objective(cls, arguments, images, labels):
    check_objective(cls, arguments, images, labels)


@pytest.mark.parametrize(("cls", "arguments"), PENALTIES, ids=case_id)
def test_penalty(cls, arguments, images, labels):
    check_penalty(cls, arguments, images, labels)


@pytest.mark.parametrize(
    "cls", [cls for kind in KINDS for cls in public_classes(kind)], ids=case_id
)
def test_public_class_has_a_case(cls):
    assert missing_case(cls) is None, missing_case(cls)


@pytest.mark.parametrize("kind", ["layer", "attack"])
def test_gate_puts_the_fullest_case_of_each_class_through_all(kind):
    cases = cases_of(kind)
    parameters = whole_once(cases)
    whole = [case.values[:2] for case in parameters if case.values[2]]
    assert whole == cases
    gated = [case.values for case in parameters if not case.marks]
    assert [case[:2] for case in gated] == cases
    fullest = {cls: arguments for cls, arguments, is_whole in gated if is_whole}
    composed = {keras_advdef.attacks.AutoAttack}
    cases = [case for case in cases if case[0] not in composed]
    assert list(fullest) == list(dict.fromkeys(cls for cls, _ in cases))
    for cls, arguments in cases:
        assert len(arguments) <= len(fullest[cls])


def test_bases_are_left_to_their_subclasses():
    found = {cls for kind in KINDS for cls in public_classes(kind)}
    bases = {base for _, base in KINDS.values()}
    bases |= {keras_advdef.attacks.GradientAttack, keras_advdef.layers.InputTransform}
    assert not found & bases
    assert keras_advdef.attacks.PGD in found


@pytest.fixture
def newcomer(own_cards, tmp_path, monkeypatch):
    """Exports a class as its author would, beside a test file with the given text."""
    monkeypatch.setattr(cases, "TESTS", tmp_path)

    def export(kind, cls, test=""):
        folder, _ = KINDS[kind]
        module = ModuleType(f"{folder.__name__}.{cls.__name__.lower()}")
        setattr(module, cls.__name__, cls)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cls, "__module__", module.__name__)
        monkeypatch.setattr(folder, cls.__name__, cls, raising=False)
        monkeypatch.setattr(folder, "__all__", [*folder.__all__, cls.__name__])
        path = tmp_path.joinpath(*folder.__name__.split(".")[1:])
        path.mkdir(parents=True)
        (path / f"test_{cls.__name__.lower()}.py").write_text(test, encoding="utf-8")
        return [case for case in cases_of(kind) if case[0] is cls]

    return export


@pytest.mark.parametrize("name", all_cards())
def test_attacks_on_a_card_are_known_to_evaluations(name):
    """An attack is told by its name in `evaluation/_plan/card_attacks.py`."""
    unknown = set(all_cards()[name].attacks) - CARD_ATTACKS.keys()
    assert not unknown


def _layer(slope):
    card = keras_advdef.core.DefenceCard(
        summary="Pulls pixels to grey.",
        category="input transformation",
        paper="none",
        claim="none",
        standing="broken",
        attacks=("PGD",),
        training_cost="none",
        inference_cost="none",
    )

    @defence(card)
    @keras.saving.register_keras_serializable(package="keras_advdef")
    class Greyer(keras_advdef.layers.InputTransform):
        draws = False

        def __init__(self, share, **kwargs):
            super().__init__(**kwargs)
            self.share = share

        def transform(self, images):
            return slope * images + self.share * (0.5 - images)

        def get_config(self):
            return {**super().get_config(), "share": self.share}

    return Greyer


def test_new_layer_is_put_through_its_contract(newcomer, images):
    ((cls, arguments),) = newcomer("layer", _layer(1.0), 'CONTRACT = [{"share": 0.5}]')
    assert arguments == {"share": 0.5}
    check_layer(cls, arguments, images)


def test_new_layer_that_breaks_its_contract_is_found_out(newcomer, images):
    ((cls, arguments),) = newcomer("layer", _layer(2.0), 'CONTRACT = [{"share": 0.5}]')
    with pytest.raises(AssertionError):
        check_layer(cls, arguments, images)


@keras.saving.register_keras_serializable(package="keras_advdef")
class Darken(keras_advdef.attacks.Attack):
    """Example:

    >>> attack = keras_advdef.attacks.Darken(epsilon=0.2, training=bool())
    >>> attack = keras_advdef.attacks.Darken(0.25)
    """

    norms = ("linf",)

    def __init__(self, epsilon, *, training=False, value_range=(0.0, 1.0)):
        super().__init__(
            epsilon,
            norm="linf",
            value_range=value_range,
            targeted=False,
            training=training,
        )

    def perturb(self, logits_fn, images, labels, epsilon, seed):
        del logits_fn, labels, seed
        return tf.maximum(images - epsilon, 0.0)


def test_new_attack_is_put_through_its_contract(newcomer, trained_net, digits):
    ((cls, arguments),) = newcomer("attack", Darken)
    assert arguments == {"epsilon": 0.25}
    check_attack(cls, arguments, trained_net, digits.x_test[:6], digits.y_test[:6])


def test_new_objective_is_put_through_its_contract(newcomer, images, labels):
    @keras.saving.register_keras_serializable(package="keras_advdef")
    class Doubled(keras_advdef.objectives.Objective):
        def __call__(self, model, images, labels, adversarial):
            del images
            outputs = model.classifier(adversarial, training=True)
            return 2.0 * model.example_losses(labels, outputs), None, outputs

    ((cls, arguments),) = newcomer("objective", Doubled)
    assert arguments == {}
    check_objective(cls, arguments, images, labels)


def test_class_without_a_case_is_told_which_line_to_add(newcomer, tmp_path):
    cls = _layer(1.0)
    assert newcomer("layer", cls) == []
    assert missing_case(cls) == (
        "`Greyer` has no case of its contract: it needs arguments, and the example in "
        "its docstring gives none that are plain values. Add the line\n\n"
        '    CONTRACT = [{"share": ...}]\n\n'
        f"to {tmp_path / 'layers' / 'test_greyer.py'}."
    )


def test_class_may_say_why_its_contract_does_not_fit(newcomer):
    cls = _layer(1.0)
    assert newcomer("layer", cls, 'CONTRACT = "it is only an example"') == []
    assert arguments_of(cls) == "it is only an example"
    assert missing_case(cls) is None

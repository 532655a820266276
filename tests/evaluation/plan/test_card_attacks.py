import itertools

import keras
import pytest

from keras_advdef.attacks import PGD, CarliniWagner, LatentSpaceAttack
from keras_advdef.core.cards import all_cards, card_of
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.norms import NORMS
from keras_advdef.evaluation._plan.card_attacks import (
    CARD_ATTACKS,
    Target,
    layers_to_pass,
    named_attacks,
)
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.budget import BUDGETS
from keras_advdef.evaluation._verdict.headline import is_robust_accuracy
from keras_advdef.layers import (
    BitDepthReduction,
    GenerativeProjection,
    MedianSmoothing,
    StochasticActivationPruning,
)
from keras_advdef.models import AveragingEnsemble, DefenseGAN, FeatureSqueezingDetector
from keras_advdef.training import DistillationTrainer
from tests.support.generators import small_generator
from tests.support.nets import small_net


@pytest.fixture
def target_of(make_request, make_probe_result):
    """Makes a target whose model is a function, but for some changes."""

    def make(model=len, *, probed=None, **changes):
        found = make_probe_result(adaptive=ModelView(model), **probed or {})
        return Target(make_request(**{"norm": "l2", **changes}), found)

    return make


def stages_of(*attacks, model=len, bpda_layers=()):
    view = ModelView(model, bpda_layers=bpda_layers)
    return [
        Stage(key=str(index), label="a", role="adaptive", attack=attack, view=view)
        for index, attack in enumerate(attacks)
    ]


class TestCardAttack:
    @pytest.mark.parametrize(
        ("name", "made"),
        [
            ("PGD", "PGD-40"),
            ("PGD-200", "PGD-200"),
            ("SqueezingAware", "PGD-100"),
            ("MemberDLR", "PGD-200"),
            ("APGD", "APGD-25 on dlr"),
            ("CarliniWagner", "CarliniWagner"),
        ],
    )
    def test_makes(self, name, made, target_of):
        (attack,) = CARD_ATTACKS[name].make(target_of())
        assert str(attack) == made
        assert (attack.epsilon, attack.norm) == (0.1, "l2")

    @pytest.mark.parametrize("norm", ["linf", "l1"])
    def test_loss_of_carlini_and_wagner_in_other_norms(self, norm, target_of):
        (attack,) = CARD_ATTACKS["CarliniWagner"].make(target_of(norm=norm))
        assert isinstance(attack, PGD)
        assert (attack.loss, attack.steps, attack.norm) == ("margin", 100, norm)

    @pytest.mark.parametrize(
        "name", ["PGD", "APGD", "CarliniWagner", "LatentSpaceAttack"]
    )
    def test_draws_of_the_model(self, name, target_of):
        (attack,) = CARD_ATTACKS[name].make(target_of(probed={"is_random": True}))
        assert attack.eot_samples == 20

    @pytest.mark.parametrize(
        ("changes", "ran"),
        [
            ({}, True),
            ({"steps": 100, "restarts": 5, "eot_samples": 3}, True),
            ({"steps": 39}, False),
            ({"loss": "margin"}, False),
            ({"targeted": True}, False),
            ({"momentum": 1.0}, False),
        ],
    )
    def test_ran(self, changes, ran, target_of):
        stages = stages_of(PGD(**{"steps": 40, "norm": "l2", **changes}))
        assert CARD_ATTACKS["PGD"].ran(stages, target_of()) is ran
        assert not CARD_ATTACKS["APGD"].ran(stages, target_of())

    def test_fewer_draws_are_another_attack(self, target_of):
        target = target_of(probed={"is_random": True})
        for draws, ran in ((19, False), (20, True)):
            stages = stages_of(PGD(steps=40, norm="l2", eot_samples=draws))
            assert CARD_ATTACKS["PGD"].ran(stages, target) is ran

    def test_auto_attack_is_all_its_parts(self, target_of):
        target = target_of(budget="standard")
        parts = CARD_ATTACKS["AutoAttack"].make(target)
        assert len(parts) == 4
        assert CARD_ATTACKS["AutoAttack"].ran(stages_of(*parts), target)
        assert not CARD_ATTACKS["AutoAttack"].ran(stages_of(*parts[1:]), target)

    def test_bpda_is_past_the_layer(self, target_of):
        layer = StochasticActivationPruning()
        net = small_net(front=[layer])
        target, bpda = target_of(net), CARD_ATTACKS["BPDA"]
        (attack,) = bpda.make(target)
        assert bpda.ran(stages_of(attack, model=net, bpda_layers=(layer,)), target)
        assert not bpda.ran(stages_of(attack, model=net), target)

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("BPDA", "layers"),
            ("LatentSpaceAttack", "generator"),
            ("SqueezingAware", "detector"),
            ("MemberDLR", "ensemble"),
        ],
    )
    def test_cannot_run_out_of_reach(self, name, what, target_of):
        reason = f"the model does not expose its {what}"
        assert CARD_ATTACKS[name].reason(target_of()) == reason

    def test_cannot_run_for_other_reasons(self, target_of):
        masked = {"no_gradient": 1.0, "no_gradient_by_identity": 1.0}
        for name, target, reason in [
            ("AutoAttack", target_of(), "it needs the standard or the full budget"),
            ("transfer", target_of(), "no surrogate model was given"),
            ("PGD", target_of(probed=masked), "the model has no input gradient"),
        ]:
            assert CARD_ATTACKS[name].reason(target) == reason

    def test_can_run_within_reach(self, target_of):
        gan = DefenseGAN(small_generator(), small_net())
        squeezed = FeatureSqueezingDetector(small_net(), [MedianSmoothing(2)])
        within = {
            "SqueezingAware": squeezed,
            "MemberDLR": AveragingEnsemble([small_net(), small_net()]),
            "LatentSpaceAttack": gan,
            "BPDA": gan,
        }
        for name, model in within.items():
            assert CARD_ATTACKS[name].reason(target_of(model)) == ""
        (attack,) = CARD_ATTACKS["LatentSpaceAttack"].make(target_of(gan))
        assert isinstance(attack, LatentSpaceAttack)
        surrogate = target_of(surrogate=lambda images: images)
        assert CARD_ATTACKS["transfer"].reason(surrogate) == ""


class TestNamedAttacks:
    def test_in_the_order_of_the_registry(self):
        defended = (DistillationTrainer, GenerativeProjection, BitDepthReduction)
        named = named_attacks(map(card_of, defended))
        assert list(named) == [
            "PGD",
            "AutoAttack",
            "APGD",
            "CarliniWagner",
            "LatentSpaceAttack",
            "BPDA",
        ]
        assert named["PGD"] is CARD_ATTACKS["PGD"]

    def test_unknown_names_come_last(self, made_up_card):
        named = named_attacks([made_up_card(attacks=("Zoo", "PGD", "Art"))])
        assert list(named.items()) == [
            ("PGD", CARD_ATTACKS["PGD"]),
            ("Art", None),
            ("Zoo", None),
        ]


@pytest.mark.parametrize("defended", all_cards())
def test_each_attack_of_a_card_is_planned_or_left_out(
    defended, make_request, make_probe_result
):
    card = all_cards()[defended]
    named = named_attacks([card])
    found = make_probe_result(cards={defended: card}, is_random=card.eot_samples > 1)
    for budget, norm in itertools.product(BUDGETS, NORMS):
        request = make_request(budget=budget, norm=norm)
        plan, target = Planner(request, found).plan(), Target(request, found)
        ran = {name for name in named if named[name].ran(plan.adaptive, target)}
        assert set(plan.missing) == named.keys() - ran
        told = [each.attack for each in plan.skipped if each.attack != "transfer"]
        for name in plan.missing:
            names = (name, *map(str, named[name].make(target)))
            assert any(each.startswith(names) for each in told)
        assert is_robust_accuracy(request, plan, []) == (
            budget != "quick" and not told and not plan.missing
        )


@pytest.mark.parametrize("budget", ["standard", "full"])
@pytest.mark.parametrize("norm", NORMS)
def test_distilled_models_meet_carlini_and_wagner(
    norm, budget, make_request, make_probe_result
):
    cards = {"DistillationTrainer": card_of(DistillationTrainer)}
    request = make_request(budget=budget, norm=norm)
    plan = Planner(request, make_probe_result(cards=cards)).plan()
    attacks = [stage.attack for stage in plan.adaptive]
    met = [
        type(attack)
        for attack in attacks
        if isinstance(attack, CarliniWagner)
        or (isinstance(attack, PGD) and attack.loss == "margin")
    ]
    assert met == [CarliniWagner if norm == "l2" else PGD]
    assert plan.missing == ()
    assert is_robust_accuracy(request, plan, [])


class TestLayersToPass:
    def test_of_a_sequential_model(self):
        layer = StochasticActivationPruning()
        front = [BitDepthReduction(3), layer]
        assert layers_to_pass(small_net(front=front)) == (layer,)

    def test_a_model_with_a_card_is_not_passed_itself(self):
        model = DefenseGAN(small_generator(), small_net())
        assert layers_to_pass(model) == (model.projection,)

    def test_none_elsewhere(self):
        assert layers_to_pass(len) == ()
        assert layers_to_pass(keras.Sequential([keras.layers.Flatten()])) == ()

import keras
import pytest

from keras_advdef.attacks import LatentSpaceAttack
from keras_advdef.core.cards import card_of
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.card_attacks import card_attacks, layers_to_pass
from keras_advdef.layers import (
    BitDepthReduction,
    GenerativeProjection,
    RandomResizePad,
    StochasticActivationPruning,
)
from keras_advdef.models import AveragingEnsemble, DefenseGAN, FeatureSqueezingDetector
from tests.support.generators import small_generator
from tests.support.nets import small_net


@pytest.fixture
def asked(make_probe_result):
    """What the cards of some classes ask for in the quick budget."""

    def ask(*defences, model=len, draws=1, **changes):
        cards = {each.__name__: card_of(each) for each in defences}
        probed = make_probe_result(cards=cards, adaptive=ModelView(model), **changes)
        settings = {"epsilon": 0.1, "norm": "l2"}
        return card_attacks(probed, settings=settings, budget="quick", draws=draws)

    return ask


@pytest.mark.parametrize(
    ("defended", "expected"),
    [
        (BitDepthReduction, ["PGD-40"]),
        (StochasticActivationPruning, ["PGD-40"]),
        (FeatureSqueezingDetector, ["PGD-40", "PGD-100"]),
        (AveragingEnsemble, ["PGD-200", "PGD-200"]),
    ],
)
def test_attacks(defended, expected, asked):
    attacks, skipped = asked(defended)
    assert [str(attack) for attack in attacks] == expected
    assert {(attack.epsilon, attack.norm) for attack in attacks} == {(0.1, "l2")}
    assert skipped == []


def test_apgd_where_the_budget_s_has_fewer_draws(asked):
    random = {"is_random": True}
    attacks, _ = asked(RandomResizePad, draws=20, **random)
    assert [str(attack) for attack in attacks] == [
        "PGD-40",
        "APGD-25 on cross_entropy",
    ]
    assert {attack.eot_samples for attack in attacks} == {30}


@pytest.mark.parametrize("defended", [GenerativeProjection, DefenseGAN])
def test_latent_space_of_a_generator_in_reach(defended, asked):
    model = DefenseGAN(small_generator(), small_net())
    (attack,), skipped = asked(defended, model=model, is_random=True)
    assert isinstance(attack, LatentSpaceAttack)
    assert attack.eot_samples == 20
    assert skipped == []


def test_generator_out_of_reach_is_told(asked):
    attacks, (skipped,) = asked(GenerativeProjection)
    assert attacks == []
    assert skipped.attack == "LatentSpaceAttack"
    assert skipped.reason == "the model does not expose its generator"


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

import numpy as np
import pytest

from keras_advdef.attacks import SPSA, HopSkipJump, Square, Transfer
from keras_advdef.evaluation._plan.card_attacks import Target
from keras_advdef.evaluation._plan.closing_attacks import closing_attacks


@pytest.fixture
def attacks_for(make_request, make_probe_result):
    def make(*, number=0, failed=("noise_vs_attack",), sources=(), **changes):
        target = Target(make_request(**changes), make_probe_result())
        return closing_attacks(target, sources, number=number, failed=failed)

    return make


def test_no_attack_needs_a_gradient(attacks_for):
    attacks = attacks_for(sources=[len, abs])
    kinds = [type(attack) for attack in attacks]
    assert kinds == [Transfer, Transfer, Square, HopSkipJump]
    assert [attack.surrogate for attack in attacks[:2]] == [len, abs]


@pytest.mark.parametrize(
    "failed", ["true_gradients", "attacks_find_planted_perturbation", "smooth_loss"]
)
def test_gradients_are_estimated_where_they_are_in_doubt(failed, attacks_for):
    attacks = attacks_for(failed=[failed], epsilon=0.1)
    (estimated,) = (each for each in attacks if isinstance(each, SPSA))
    assert estimated.delta == pytest.approx(0.05)


def test_later_rounds_only_draw_anew(attacks_for):
    attacks = attacks_for(number=1, failed=["true_gradients"], sources=[len])
    assert [type(attack) for attack in attacks] == [Square, HopSkipJump]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_settings(norm, attacks_for):
    attacks = attacks_for(
        norm=norm,
        value_range=(0, 255),
        epsilon=20.0,
        failed=["input_gradients"],
        sources=[len],
    )
    assert len(attacks) > 1
    for attack in attacks:
        assert (attack.norm, attack.epsilon) == (norm, 20.0)
        assert tuple(attack.value_range) == (0.0, 255.0)


@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 0.5), ("l1", 12.0)])
def test_pairs_lie_within_what_a_pixel_shows(norm, epsilon, attacks_for):
    images = np.full((4, 32, 32, 3), 0.5)
    attacks = attacks_for(
        norm=norm, epsilon=epsilon, failed=["true_gradients"], images=images
    )
    (estimated,) = (each for each in attacks if isinstance(each, SPSA))
    assert 1 / 256 <= estimated.delta < 0.01

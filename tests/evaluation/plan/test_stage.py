import pytest

from keras_advdef.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    SPSA,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    HopSkipJump,
    LatentSpaceAttack,
    Square,
    Transfer,
)
from keras_advdef.attacks.losses import TargetedDLR
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.stage import Stage, passes_of
from keras_advdef.models import DefenseGAN
from tests.support.generators import small_generator
from tests.support.nets import small_net

# By hand, for ten classes; a run looks once more at its end.
PASSES = [
    (FGSM(0.1), 2),
    (PGD(0.1, steps=40, restarts=5), 5 * 41),
    (PGD(0.1, steps=10, eot_samples=20), 11 * 20),
    (APGD(0.1, steps=100, loss=TargetedDLR(9)), 9 * 101),
    (FAB(steps=100, target_classes=9), 9 * 101),
    (FAB(steps=10), 10 * 10 + 1),
    (Square(0.1, queries=200), 201),
    (SPSA(0.1, steps=5, samples=64), 5 * 2 * 64),
    (CarliniWagner(steps=100, binary_search_steps=9), 900),
    (DeepFool(steps=50, candidates=10), 500),
    (Transfer(len, PGD(0.1, steps=40)), 42),
    # 10, 14.1 and 17.3, cut at 15.
    (
        HopSkipJump(
            steps=3, initial_evaluations=10, max_evaluations=15, starting_tries=7
        ),
        39 + 7,
    ),
]


@pytest.mark.parametrize(
    ("attack", "passes"), PASSES, ids=lambda each: type(each).__name__
)
def test_passes(attack, passes):
    assert passes_of(attack, 10) == passes
    stage = Stage(key="a", label="a", role="check", attack=attack, view=ModelView(len))
    assert stage.passes(10) == passes


def test_auto_attack_costs_what_its_attacks_cost():
    assert passes_of(AutoAttack(0.1), 10) == 101 + 909 + 909 + 5001
    assert passes_of(AutoAttack(0.1, version="rand"), 10) == 2 * 101 * 20


def test_latent_space_attack_costs_little_beside_the_search_it_attacks():
    model = DefenseGAN(small_generator(), small_net(), steps=200, restarts=10)
    attack = LatentSpaceAttack(0.1, steps=50, restarts=4, eot_samples=3)
    stage = Stage(key="a", label="a", role="adaptive", attack=attack, view=model)
    # 4 runs of 100 passes of the generator, of 2000 in one of the model, and 12 looks.
    assert stage.passes(10) == 13

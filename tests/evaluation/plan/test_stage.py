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
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.models import DefenseGAN
from tests.support.generators import small_generator
from tests.support.nets import small_net

# By hand, for ten classes: the larger of forward and backward passes.
PASSES = [
    (FGSM(0.1), 1),
    # A run looks once more at its end.
    (PGD(0.1, steps=40, restarts=5), 5 * 41),
    (PGD(0.1, steps=10, eot_samples=20), 11 * 20),
    # Each run looks for its target, and the attack for the number of classes.
    (APGD(0.1, steps=100, loss=TargetedDLR(9)), 9 * 102 + 1),
    # Two a step and one at the start of each run, three for the whole.
    (FAB(steps=100, target_classes=9), 9 * 201 + 3),
    # Nine wrong classes.
    (FAB(steps=10), 10 * 9),
    (Square(0.1, queries=200), 201),
    (SPSA(0.1, steps=5, samples=64), 5 * (2 * 64 + 1) + 1),
    (CarliniWagner(steps=100, binary_search_steps=9), 902),
    (DeepFool(steps=50, candidates=10), 450),
    (Transfer(len, PGD(0.1, steps=40)), 41),
    # 10, 14.1 and 17.3, cut at 15.
    (
        HopSkipJump(
            steps=3, initial_evaluations=10, max_evaluations=15, starting_tries=7
        ),
        39 + 7,
    ),
    # APGD on both losses, FAB-T, Square, and a look before and after each.
    (AutoAttack(0.1), 101 + 919 + 1812 + 5001 + 5),
    (AutoAttack(0.1, version="rand"), 2 * 101 * 20 + 3 * 20),
]


@pytest.mark.parametrize(
    ("attack", "passes"), PASSES, ids=lambda each: type(each).__name__
)
def test_passes(attack, passes):
    stage = Stage(key="a", label="a", role="check", attack=attack, view=ModelView(len))
    assert stage.passes(10) == passes


def test_latent_space_attack_costs_little_beside_the_search_it_attacks():
    model = DefenseGAN(small_generator(), small_net(), steps=200, restarts=10)
    attack = LatentSpaceAttack(0.1, steps=50, restarts=4, eot_samples=3)
    stage = Stage(key="a", label="a", role="adaptive", attack=attack, view=model)
    # 4 runs of 100 passes of the generator, of 2000 in one of the model, and 12 looks.
    assert stage.passes(10) == 13

import pytest

from keras_advdef.attacks import PGD
from keras_advdef.evaluation._plan.plan_summary import opening, plan_summary
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.models import DefenseGAN
from tests.support.generators import small_generator
from tests.support.nets import small_net


@pytest.fixture
def summary(make_request, make_probe_result):
    def lines(**changes):
        request = make_request(**{"attacks": [PGD(0.1, steps=3)], **changes})
        plan = Planner(request, make_probe_result()).plan()
        summary = plan_summary(request, plan, classes=10, seconds_per_pass=0.01)
        return [opening(request), *summary]

    return lines


def test_scope_and_cost(summary):
    scope, cost = summary(seed=7)
    assert scope == (
        "Evaluating 4 of 4 images: linf, epsilon 0.1 (25.5/255), budget quick, seed 7."
    )
    assert cost.startswith("Planned: PGD-20; FGSM; PGD-20; PGD-50; PGD-20, logits div")
    # 21 + 1 + 21 + 51 + 21 + 40 + 201 + 4 passes for each of four images.
    assert "At most 1,400 model passes, 14 s at the speed of a first try" in cost


def test_searches_and_skipped_attacks(summary):
    model = DefenseGAN(small_generator(), small_net(), steps=3, restarts=2)
    images = [[[[0.5]] * 8] * 8] * 2
    lines = summary(
        model=model, images=images, labels=[0, 1], attacks=[PGD(0.1, steps=9999)]
    )
    assert "a latent space with 6 generator passes" in lines[2]
    assert lines[3].startswith("Skipped: PGD-9999 (10000 passes per image, but ")


def test_corruptions(summary):
    (line,) = set(summary(corruptions=True)) - set(summary())
    # Fifteen at five severities, of four images.
    assert (
        line == "Then 15 common corruptions at 5 severities each: 300 forward passes."
    )

import numpy as np
import pytest

from keras_advdef.attacks import APGD, PGD, Square
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._verdict import convergence
from keras_advdef.evaluation._verdict.convergence import (
    Effort,
    check_convergence,
    strongest,
)
from keras_advdef.models import SqueezingAware
from tests.support.nets import linear_net

MODULE = "keras_advdef.evaluation._verdict.convergence"
EPSILON = 0.1
# The logit of class 0 is three times the first pixel, and that of class 1 is 0.9.
WEIGHTS, BIAS = [[3.0, 0.0], [0.0, 0.0]], [0.0, 0.9]


def stage(attack, view, key="00"):
    return Stage(key=key, label=str(attack), role="adaptive", attack=attack, view=view)


def plan_of(*stages):
    naive = stage(PGD(EPSILON), ModelView(len))
    return Plan(naive=naive, checks={}, adaptive=stages, skipped=(), missing=())


@pytest.fixture
def converge(make_request, make_runner):
    """Attacks images that are so far from the boundary, with steps of so many epsilons.

    Without a random start, so that only steps count.
    """

    def run(distances, step, *, steps=10, ledger=None, **changes):
        images = np.full((len(distances), 2, 1, 1), 0.5)
        images[:, 0, 0, 0] = 0.3 + np.array(distances) * EPSILON
        labels, net = np.zeros(len(images), int), linear_net(WEIGHTS, BIAS)
        arguments = {"images": images, "labels": labels, "epsilon": EPSILON, **changes}
        request = make_request(model=net, **arguments)
        length = step * EPSILON
        attack = PGD(
            EPSILON, steps=steps, step_size=length, loss="margin", random_start=False
        )
        runner = make_runner(request)
        found = check_convergence(
            request,
            plan_of(stage(attack, ModelView(net))),
            runner,
            labels=labels,
            ledger=ledger or Ledger(None, {}, Progress()),
            progress=Progress(),
        )
        return found, runner

    return run


def numbers(found):
    return [(each.images, each.broken, each.rising) for each in found.efforts]


class TestCheckConvergence:
    def test_converged(self, converge):
        # Nine tenths of the steps reach the surface.
        found, runner = converge([1.5] * 6, 1 / 8)
        assert found.check.passed
        assert numbers(found) == [(6, 0, 0)]
        assert found.check.detail.startswith("PGD-10, restarted, on 6 images, broke 0;")
        assert len(runner.unbroken) == 6

    def test_more_steps_until_it_has(self, converge):
        # The surface takes 15 steps.
        found, runner = converge([1.5] * 6, 1 / 15)
        assert numbers(found) == [(6, 0, 6), (6, 0, 0)]
        assert found.check.passed
        assert "PGD-20, as fewer steps had not converged, on" in found.check.detail
        assert found.check.detail.endswith("More steps would not change much.")
        assert len(runner.unbroken) == 6

    def test_bound(self, converge):
        found, _ = converge([1.5] * 6, 1 / 100)
        assert numbers(found) == [(6, 0, 6)] * 3
        assert found.check.passed is False
        assert found.check.detail.endswith("That is the most that is tried.")

    def test_what_it_finds_counts(self, converge, monkeypatch):
        # Ten steps go 0.4 epsilons far, and forty go to the surface. All images are
        # given more, as the first do not suffice.
        monkeypatch.setattr(f"{MODULE}._IMAGES", {"quick": 8})
        found, runner = converge([0.3, 0.7, 0.9, *[1.5] * 6], 1 / 25)
        assert numbers(found) == [(8, 1, 7), (8, 1, 7), (7, 1, 0)]
        assert found.check.passed
        assert runner.unbroken.tolist() == [3, 4, 5, 6, 7, 8]
        np.testing.assert_allclose(runner.worst[2, 0, 0, 0], 0.29, atol=1e-6)

    def test_all_images_broken(self, converge):
        found, _ = converge([-0.5] * 3, 0.1)
        assert found.efforts == []
        assert found.check.passed
        assert found.check.detail == "The attacks left no image to try more steps on."

    def test_resumes_alike_in_any_batch(self, converge, tmp_path):
        first, _ = converge([0.7, *[1.5] * 6], 1 / 8)
        kept = Ledger(tmp_path / "out", {}, Progress())
        for _ in range(2):
            again, runner = converge(
                [0.7, *[1.5] * 6], 1 / 8, batch_size=3, ledger=kept
            )
            assert numbers(again) == numbers(first) == [(7, 1, 0)]
            assert runner.unbroken.tolist() == [1, 2, 3, 4, 5, 6]
        kept.close(finished=True)

    def test_own_attacks_are_left_alone(self, converge):
        found, _ = converge([1.5] * 3, 0.1, attacks=[PGD(EPSILON)])
        assert found.check.passed is None
        assert found.check.detail.startswith("Not run: the attacks are not those of")


class TestStrongest:
    def test_most_steps(self):
        view = ModelView(len)
        stages = [
            stage(PGD(0.1, steps=20), view),
            stage(APGD(0.1, steps=30), view),
            stage(PGD(0.1, steps=30), view),
            stage(PGD(0.1, steps=90, loss=SqueezingAware()), view),
            stage(Square(0.1), view),
        ]
        assert strongest(plan_of(*stages)) is stages[1]

    def test_none(self):
        blind = stage(PGD(0.1), ModelView(len, has_gradient=False))
        assert strongest(plan_of(blind, stage(Square(0.1), ModelView(len)))) is None


@pytest.mark.parametrize(
    ("images", "broken", "rising", "expected"),
    [
        (100, 3, 9, True),
        (100, 4, 0, False),
        (100, 0, 10, True),
        (100, 0, 11, False),
        # Two of few images may be chance.
        (5, 2, 2, True),
        (5, 3, 0, False),
    ],
)
def test_has_converged(images, broken, rising, expected):
    effort = Effort(stage(PGD(0.1), ModelView(len)), images, broken, rising)
    assert effort.has_converged() is expected


@pytest.mark.parametrize(
    ("broken", "rising", "passed"), [(0, 50, True), (0, 51, False), (4, 0, False)]
)
def test_a_rough_loss_may_rise_by_luck(broken, rising, passed):
    effort = Effort(stage(PGD(0.1), ModelView(len)), 100, broken, rising)
    assert convergence._verdict([effort]).passed is passed

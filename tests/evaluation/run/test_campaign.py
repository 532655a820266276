import types

import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._plan.distilled_surrogate import DistilledSurrogate
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._run import campaign as module
from keras_advdef.evaluation._run.campaign import Attacked, Campaign
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._run.rejection import Rejection
from keras_advdef.evaluation._verdict.convergence import Convergence, Effort
from keras_advdef.evaluation.check import Check


class ScriptedRunner:
    """Pretends that each attack breaks so many further images of a hundred."""

    def __init__(self, gains):
        self.wrong, self.draws = np.zeros(100, int), 1
        self.judge = None
        self._gains = iter(gains)

    @property
    def unbroken(self):
        return np.flatnonzero(self.wrong < self.draws)

    def run(self, stage, rows):
        assert rows.tolist() == self.unbroken.tolist()
        self.wrong[rows[: next(self._gains)]] = 1


class ScriptedPlanner:
    """Plans one attack a round, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def closing(self, number, failed):
        self.asked.append((number, failed))
        key = f"closing-{number}-0"
        view = ModelView(len)
        return [Stage(key=key, label=key, role="closing", attack=PGD(0.1), view=view)]


def check(name, *, passed):
    return Check(name=name, passed=passed, detail="What.", reason="why")


FAILED = [check("more_steps", passed=True), check("true_gradients", passed=False)]


@pytest.fixture
def make_campaign(make_request):
    """Makes a campaign whose attacks gain so much, and what it has found so far."""

    def make(gains, **changes):
        images = {"images": np.full((100, 2, 1, 1), 0.5), "labels": np.arange(100) % 2}
        request = make_request(**images, **changes)
        planner, runner = ScriptedPlanner(), ScriptedRunner(gains)
        campaign = Campaign(
            request,
            np.arange(100) % 2,
            types.SimpleNamespace(planner=planner, plan=None),
            as_random=None,
            distilled=DistilledSurrogate(request, 2),
            ledger=Ledger(None, {}, Progress()),
        )
        attacked = Attacked(
            runner=runner,
            naive=np.zeros(100),
            broken={},
            checked=np.arange(100),
            rejection=Rejection(None, 0.0),
            records=[],
        )
        return campaign, attacked, planner

    return make


@pytest.fixture
def press(make_campaign):
    """Presses after some verdicts; returns the gains, the rounds and the records."""

    def run(gains, checks=FAILED, **changes):
        campaign, attacked, planner = make_campaign(gains, **changes)
        found = campaign.press(attacked, checks)
        return found, planner.asked, attacked.records

    return run


@pytest.mark.parametrize(
    ("gains", "expected"),
    [([0], [0]), ([1], [1]), ([40, 1], [40, 1]), ([40, 2, 2, 9], [40, 2, 2])],
)
def test_presses_until_that_gains_nothing(gains, expected, press):
    found, asked, records = press(gains)
    assert found == expected
    assert asked == [(number, ["true_gradients"]) for number in range(len(expected))]
    left = 1.0 - np.cumsum(expected) / 100
    assert [each["accuracy_after"] for each in records] == pytest.approx(left)
    assert {each["role"] for each in records} == {"closing"}


@pytest.mark.parametrize(
    "checks",
    [
        [check("more_steps", passed=True), check("steady", passed=None)],
        # A model that has learned nothing needs no further attack.
        [*FAILED, check("better_than_chance", passed=False)],
    ],
    ids=["nothing failed", "at chance"],
)
def test_does_not_press_without_reason(checks, press):
    assert press([], checks) == ([], [], [])


def test_the_user_s_own_attacks_stay_alone(press):
    assert press([], attacks=[PGD(0.1)]) == ([], [], [])


def test_more_steps_are_listed_with_the_attacks(make_campaign, monkeypatch):
    campaign, attacked, _ = make_campaign([])
    view = ModelView(len)
    longer = Stage(key="l", label="longer", role="adaptive", attack=PGD(0.1), view=view)
    verdict = check("attack_converged", passed=True)

    def converge(request, plan, runner, **options):
        runner.wrong[:30] = 1
        effort = Effort(stage=longer, images=100, broken=30, rising=0)
        return Convergence(verdict, [effort])

    monkeypatch.setattr(module, "check_convergence", converge)
    assert campaign.converge(attacked, Progress()) is verdict
    expected = {"key": "l", "name": "longer", "role": "adaptive", "images": 100}
    assert attacked.records == [{**expected, "accuracy_after": pytest.approx(0.7)}]

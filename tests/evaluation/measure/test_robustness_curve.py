import types

import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.evaluation._measure.robustness_curve import measure_curve
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from tests.support.nets import linear_net

# Class 1 where the first pixel is above the second: the distance of an image from the
# boundary is half the difference in linf, and the whole difference in l1.
NET = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
DISTANCES = np.array([0.02, 0.06, 0.1, 0.14, 0.18, 0.22])
IMAGES = np.stack([0.5 + DISTANCES, 0.5 - DISTANCES], axis=1).reshape(-1, 2, 1, 1)


@pytest.fixture
def curve_of(make_request, make_probe_result, make_runner):
    """The points of a curve, after one attack at the evaluation's epsilon."""

    def run(**arguments):
        given = {"images": IMAGES, "labels": [1] * len(IMAGES), **arguments}
        request = make_request(model=NET, **given)
        probed, runner = make_probe_result(NET, classes=2), make_runner(request)
        attack = PGD(request.epsilon, norm=request.norm)
        stage = Stage(
            key="a", label="a", role="naive", attack=attack, view=probed.adaptive
        )
        runner.run(stage, runner.unbroken)
        curve, attacked = measure_curve(request, probed, runner)
        np.testing.assert_array_equal(attacked, runner.evaluate_worst("all"))
        points = zip(curve.epsilons, curve.estimates, strict=True)
        return [{"epsilon": epsilon, **each.to_json()} for epsilon, each in points]

    return run


def test_curve_is_that_of_the_distances(curve_of):
    epsilons = [0.01, 0.04, 0.12, 0.2, 0.3]
    points = curve_of(epsilon=0.08, curve=epsilons)
    assert [point["epsilon"] for point in points] == [0.0, *sorted([*epsilons, 0.08])]
    for point in points:
        expected = (point["epsilon"] < DISTANCES).mean()
        assert point["accuracy"] == pytest.approx(expected)
        assert point["count"] == len(DISTANCES)


def test_default_epsilons_lie_around_the_evaluation_s(curve_of):
    points = curve_of(epsilon=0.3)
    epsilons = [point["epsilon"] for point in points]
    # Four times 0.3 is more than the range holds.
    assert epsilons == [0.0, 0.0375, 0.075, 0.15, 0.225, 0.3, 0.45, 0.6]
    accuracies = [point["accuracy"] for point in points]
    assert accuracies == sorted(accuracies, reverse=True)


def test_other_norm(curve_of):
    points = curve_of(epsilon=0.22, norm="l1", curve=[0.1, 0.3])
    expected = [(point["epsilon"] < 2 * DISTANCES).mean() for point in points]
    assert [point["accuracy"] for point in points] == pytest.approx(expected)


class ScriptedRunner:
    """Pretends that the attacks broke the given images at each epsilon.

    `wrong` and `clean_wrong` are numbers of draws.
    """

    def __init__(self, wrong, clean_wrong, breaks, draws=1):
        self.wrong = np.array(wrong)
        self.clean = types.SimpleNamespace(wrong=np.array(clean_wrong))
        self.breaks, self.draws = breaks, draws
        self.calls = []

    def run(self, stage, rows):
        self.calls.append((stage, rows.tolist()))
        broken = self.breaks.get(stage.epsilon, ())
        wrong = self.draws * np.isin(rows, broken)
        if stage.epsilon <= 0.1:
            self.wrong[rows] = np.maximum(self.wrong[rows], wrong)
        return {"wrong": wrong}

    def evaluate_worst(self, name):
        assert name == "all"
        return self.attacked

    @property
    def attacked(self):
        return np.arange(self.draws)[:, None] < self.wrong


@pytest.fixture
def scripted(make_request, make_probe_result):
    def run(runner, **changes):
        settings = {"curve": [0.05, 0.2], "epsilon": 0.1, **changes}
        probed = make_probe_result()
        curve, attacked = measure_curve(make_request(**settings), probed, runner)
        np.testing.assert_array_equal(attacked, runner.attacked)
        assert all(stage.view is probed.adaptive for stage, _ in runner.calls)
        return curve

    return run


class TestMeasureCurve:
    def test_broken_images_stay_broken(self, scripted):
        # Image 0 is wrong when clean, 1 breaks only at 0.05, 2 under the evaluation's
        # attacks.
        runner = ScriptedRunner([1, 0, 1, 0], [1, 0, 0, 0], {0.05: [1]})
        curve = scripted(runner)
        assert curve.epsilons == (0.0, 0.05, 0.1, 0.2)
        assert [each.correct for each in curve.estimates] == [3, 2, 1, 1]
        assert {each.count for each in curve.estimates} == {4}
        # Nothing runs at 0 and at the evaluation's own epsilon.
        attacked = [(stage.epsilon, rows) for stage, rows in runner.calls]
        assert attacked == [(0.05, [1, 2, 3]), (0.2, [3])]

    def test_stages(self, scripted):
        runner = ScriptedRunner([0] * 4, [0] * 4, {})
        assert scripted(runner, curve=[0.05]).attack == "PGD-20"
        stages = [stage for stage, _ in runner.calls]
        assert [(stage.key, stage.role) for stage in stages] == [("curve-01", "curve")]

    def test_point_at_epsilon_is_the_mean_of_the_same_draws(self, scripted):
        runner = ScriptedRunner([5, 6, 2, 10], [0, 0, 2, 1], {}, draws=10)
        curve = scripted(runner, curve=[0.2])
        assert curve.estimates[0].correct == pytest.approx(3.7)
        expected = AccuracyEstimate.over_draws(runner.attacked)
        assert curve.estimates[1] == expected
        assert expected.correct == pytest.approx(1.7)
        # Images that nearly always fool the model are attacked no more.
        assert [rows for _, rows in runner.calls] == [[0, 1, 2]]

    def test_smaller_balls_look_no_worse_than_the_evaluation_s(self, scripted):
        class Lucky(ScriptedRunner):
            """Whose fresh draws are luckier than those that chose the images."""

            @property
            def attacked(self):
                return np.arange(10)[:, None] < self.wrong / 2

        runner = Lucky([5, 0], [0, 0], {0.05: [0, 1]}, draws=10)
        few = {"images": np.full((2, 2, 1, 1), 0.5), "labels": [0, 1]}
        curve = scripted(runner, **few)
        counts = [each.correct for each in curve.estimates]
        assert counts == pytest.approx([2.0, 1.0, 1.0, 1.0])

    def test_checked_images_only(self, scripted):
        many = {"images": np.full((203, 2, 1, 1), 0.5), "labels": np.zeros(203)}
        runner = ScriptedRunner([0] * 203, [0] * 203, {})
        curve = scripted(runner, budget="full", **many)
        assert {each.count for each in curve.estimates} == {200}
        assert runner.calls[0][1] == list(range(200))

    @pytest.mark.parametrize(
        ("norm", "expected"), [("linf", 255.0), ("l2", 255 * 2**0.5), ("l1", 510.0)]
    )
    def test_ball_that_holds_all_images(self, norm, expected, scripted, make_request):
        settings = {"norm": norm, "value_range": (0, 255), "epsilon": 20.0}
        assert make_request(**settings).full_range == pytest.approx(expected)
        runner = ScriptedRunner([0] * 4, [0] * 4, {})
        curve = scripted(runner, curve=[expected - 1, expected + 1], **settings)
        assert curve.epsilons == (0.0, 20.0, expected - 1)

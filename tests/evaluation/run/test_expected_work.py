import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS
from keras_advdef.evaluation._measure.robustness_curve import curve_epsilons
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.evaluation._run.expected_work import ExpectedWork, corruption_key
from keras_advdef.evaluation._run.forecast import FORWARD, SoFar, Work
from keras_advdef.models import SmoothedClassifier
from tests.support.nets import linear_net

# Class 1 where the first pixel is above the second.
WEIGHTS = [[0.0, 0.0], [1.0, -1.0]]


@pytest.fixture
def expected_work_of(make_request, make_probe_result, make_runner):
    """Makes the expected work on eight images, half of them within reach of epsilon."""

    def make(model=None, *, is_written=True, is_random=False, **changes):
        net = linear_net(WEIGHTS, [0.0, 0.0])
        first = np.repeat([0.55, 0.95], 4)
        images = np.stack([first, 1.0 - first], axis=1).reshape(8, 2, 1, 1)
        request = make_request(
            model=net if model is None else model(net),
            images=images.astype("float32"),
            labels=np.ones(8, int),
            **changes,
        )
        model = request.evaluated.model
        probed = make_probe_result(model, classes=2, is_random=is_random)
        runner = make_runner(request)
        plan = Planner(request, probed).plan()
        expected_work = ExpectedWork(
            request, probed, plan=plan, draws=runner.draws, is_written=is_written
        )

        def expected():
            right = runner.clean.wrong < runner.draws
            return expected_work(SoFar(right, len(runner.unbroken), runner.seconds))

        return expected, plan, runner

    return make


class TestExpectedWork:
    def test_names_every_stage(self, expected_work_of):
        expected, plan, runner = expected_work_of()
        works = expected()
        keys = {stage.key for stage in plan.stages}
        curve = curve_epsilons(runner._request)
        assert len(curve) == 7
        assert works.keys() == {*keys, *curve, "full-range", "nearest", "report"}

    def test_random_models_compile_more_than_the_naive_attack(self, expected_work_of):
        plain, random = (
            expected_work_of(is_random=is_random)[0]() for is_random in (False, True)
        )
        assert random["naive"].compiles < 0.5 * plain["naive"].compiles
        curve = [key for key in plain if key.startswith("curve-")]
        assert len(curve) == 7
        for key in curve:
            assert random[key].compiles > 3.0 * plain[key].compiles

    def test_a_report_takes_seconds_where_one_is_written(self, expected_work_of):
        for is_written, seconds in ((True, 1.5), (False, 0.0)):
            expected, *_ = expected_work_of(is_written=is_written)
            assert expected()["report"] == Work(0.0, 0.0, seconds)

    def test_corruptions_take_forward_passes_and_time_of_their_own(
        self, expected_work_of
    ):
        without, works = (
            expected_work_of(corruptions=asked)[0]() for asked in (False, True)
        )
        added = works.keys() - without.keys()
        assert added == {corruption_key(kind) for kind in CORRUPTIONS}
        # Five severities of eight images of two pixels.
        each = works[corruption_key("fog")]
        assert each == Work(40 * FORWARD, 0.0, pytest.approx(80e-7))

    def test_learns_from_what_was_broken(self, expected_work_of):
        expected, plan, runner = expected_work_of()
        before = expected()
        runner.run(plan.naive, runner.unbroken)
        after = expected()
        # Half was expected and half is broken.
        assert after == before
        runner.wrong[:] = runner.draws
        lost = expected()
        more_steps = plan.checks["more-steps"].key
        assert lost[more_steps].passes < 0.5 * before[more_steps].passes
        assert lost["00"].passes == 0.0
        runner.wrong[:] = 0
        robust = expected()
        assert robust[more_steps].passes > 1.5 * before[more_steps].passes
        assert robust["00"].passes == 2 * before["00"].passes

    def test_a_smoothed_classifier_is_certified(self, expected_work_of):
        expected, *_ = expected_work_of(
            lambda net: SmoothedClassifier(net, stddev=0.1, samples=2),
            attacks=[PGD(0.1, steps=2)],
        )
        assert expected()["certified"].passes > 1000

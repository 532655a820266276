"""The time that is left, against evaluations whose times are known."""

import dataclasses

import pytest

from keras_advdef.attacks import APGD, FGSM, PGD, Square
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._run.forecast import Forecast, Work, stage_work


def stage(attack, **changes):
    values = {"key": "a", "label": "a", "role": "check", "view": ModelView(len)}
    return Stage(**{**values, "attack": attack, **changes})


class TestStageWork:
    def test_one_that_none_leaves_costs_its_passes(self):
        work = stage_work(
            stage(PGD(steps=20), stop_early=False), 100, 10, broken=0.9, judged=0
        )
        assert work == Work(2100.0, compiles=1.0)

    def test_images_that_are_broken_leave(self):
        whole, half, none = (
            stage_work(stage(PGD(steps=49)), 100, 10, broken=share, judged=0).passes
            for share in (0.0, 0.5, 1.0)
        )
        assert whole == 5000.0
        # Five steps are enough for those that fall.
        assert none == pytest.approx(500.0)
        assert half == pytest.approx((whole + none) / 2)

    def test_what_fills_a_block_is_moved_on_too(self):
        passes = [
            stage_work(
                stage(PGD(steps=49)), 200, 10, broken=share, judged=0, slots=slots
            ).passes
            for share, slots in ((0.55, 128), (0.7, 128), (0.7, 32), (0.0, 128))
        ]
        # For the 90 that stand, 128 rows are moved on. For 60 it would be 64, which is
        # less than what those 60 and the first steps of the others take.
        few = 60 * 50 + 140 * 5
        assert passes == pytest.approx([128 * 50, few, few, 200 * 50])

    def test_leaving_images_make_more_shapes_to_compile(self):
        leaving = stage_work(stage(PGD()), 9, 10, broken=0.5, judged=0)
        one_step = stage_work(
            stage(FGSM(), stop_early=False), 9, 10, broken=0.5, judged=0
        )
        assert leaving.compiles == pytest.approx(1.7)
        assert one_step.compiles < 1.0

    def test_forward_passes_are_cheap(self):
        square = stage_work(stage(Square(queries=299)), 10, 10, broken=0.0, judged=0)
        assert square.passes == pytest.approx(1000.0)
        blind = ModelView(len, has_gradient=False)
        noise = stage(PGD(steps=1), view=blind, stop_early=False)
        found = stage_work(noise, 30, 10, broken=0.0, judged=0)
        assert found.passes == pytest.approx(20.0)

    def test_each_draw_is_a_look(self):
        found = stage_work(
            stage(FGSM(), stop_early=False), 30, 10, broken=0.0, judged=9
        )
        assert found.passes == pytest.approx(30 * 1 + 30 * 3)


@dataclasses.dataclass
class Truth:
    """A stage as it happens: a fake clock's seconds, and what was thought before."""

    passes: float
    compiling: float
    blocks: int = 1
    expected: float | None = None
    compiles: float = 1.0


def history(rate, stages, *, first_try=1.0):
    """Yields, before each block, what is told and what is true, in seconds."""
    forecast = Forecast(rate * first_try, 100)
    forecast.expect(
        {
            f"{index}": Work(each.expected or each.passes, each.compiles)
            for index, each in enumerate(stages)
        }
    )
    whole = left = sum(each.compiling + rate * each.passes for each in stages)
    for index, each in enumerate(stages):
        for block in range(each.blocks):
            yield forecast.seconds, left, whole
            passes = each.passes / each.blocks
            compiling = 0.0 if block else each.compiling
            seconds = compiling + rate * passes
            # Two fifths of it is optimizing, which nothing tells from a first pass.
            forecast.spend(
                f"{index}", seconds=seconds, tracing=0.6 * compiling, passes=passes
            )
            left -= seconds
        forecast.end(f"{index}")


# As measured of a small net, where almost all is tracing, and the same of a large one.
RUN = [
    Truth(4200, 2.0, blocks=2),
    Truth(400, 1.1, compiles=0.6),
    Truth(1800, 2.9, expected=2600, compiles=1.8),
    Truth(3000, 4.2, expected=3900, compiles=1.8),
    Truth(1700, 4.0, expected=2600, compiles=1.8),
    Truth(4000, 1.9),
    Truth(12000, 3.4, expected=9000, compiles=1.8),
    Truth(1000, 1.5),
    *[Truth(1500, 0.8, expected=2300, compiles=0.25) for _ in range(6)],
    Truth(6000, 2.0, blocks=4),
]


class TestForecast:
    @pytest.mark.parametrize("rate", [1e-5, 3e-4, 1e-3, 0.01, 0.3])
    @pytest.mark.parametrize("first_try", [0.6, 1.0, 1.6])
    def test_is_right_by_half_after_a_tenth(self, rate, first_try):
        told = 0
        for seconds, left, whole in history(rate, RUN, first_try=first_try):
            over = whole - left
            if over < 0.1 * whole:
                continue
            # The last seconds are nobody's concern.
            if left < 0.1 * whole:
                break
            if seconds is not None:
                told += 1
                assert left / 1.5 <= seconds <= 1.5 * left
            else:
                assert over < 0.2 * whole
        assert told > 8

    def test_compiling_is_no_time_of_passes(self):
        # Of two seconds a pass takes a hundredth: the second stage is as short again.
        forecast = Forecast()
        forecast.expect({"a": Work(100), "b": Work(10_000)})
        forecast.spend("a", seconds=2.1, tracing=2.0, passes=100)
        forecast.end("a")
        # Nothing tells what of the tenth was optimizing.
        assert forecast.seconds == pytest.approx(2.1, abs=0.2)
        forecast.spend("b", seconds=0.1, tracing=0.0, passes=100)
        assert forecast.seconds == pytest.approx(5.0, rel=0.3)

    def test_says_nothing_at_first(self):
        forecast = Forecast(0.01, 100)
        assert forecast.seconds is None
        forecast.expect({"a": Work(1000)})
        forecast.spend("a", seconds=0.9, tracing=0.0, passes=90)
        assert forecast.seconds is None
        forecast.spend("a", seconds=0.1, tracing=0.0, passes=10)
        assert forecast.seconds == pytest.approx(9.0)

    def test_counts_what_no_model_changes(self):
        forecast = Forecast(0.01, 100)
        forecast.expect({"a": Work(200), "report": Work(0.0, 0.0, 3.0)})
        forecast.spend("a", seconds=1.0, tracing=0.0, passes=100)
        assert forecast.seconds == pytest.approx(4.0)

    def test_earlier_runs_take_no_time(self):
        forecast = Forecast(0.01, 100)
        forecast.expect({"a": Work(1000), "b": Work(1000)})
        forecast.skip("a", 1000)
        forecast.end("a")
        forecast.skip("b", 500)
        forecast.spend("b", seconds=2.5, tracing=0.0, passes=250)
        assert forecast.seconds == pytest.approx(2.5)

    def test_expectations_are_revised(self):
        forecast = Forecast(0.01, 100)
        forecast.expect({"a": Work(1000), "b": Work(1000)})
        forecast.spend("a", seconds=10.0, tracing=0.0, passes=1000)
        forecast.end("a")
        forecast.expect({"a": Work(9999), "b": Work(500)})
        assert forecast.seconds == pytest.approx(5.0)


def test_attacks_without_leaving_move_once():
    assert stage(APGD(steps=25, restarts=2)).moves(10) == 50
    assert stage(Square(queries=7)).moves(10) == 7

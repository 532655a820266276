import numpy as np

from keras_advdef.evaluation._measure.full_range import (
    stand_without_bounds,
    unbounded_stage,
)
from tests.evaluation.measure.test_robustness_curve import ScriptedRunner


def test_attack_starts_at_the_image(make_request, make_probe_result):
    probed = make_probe_result()
    stage = unbounded_stage(make_request(value_range=(0, 255), epsilon=20.0), probed)
    # A random start in the whole range would be noise.
    assert not stage.attack.random_start
    assert (stage.role, stage.epsilon) == ("curve", 255.0)
    assert stage.view is probed.adaptive


def test_counts_what_this_attack_breaks(make_request, make_probe_result):
    # Image 0 is wrong when clean; others broke 1 and 2, which says nothing here.
    runner = ScriptedRunner([1, 1, 1, 0], [1, 0, 0, 0], {1.0: [3]})
    left = stand_without_bounds(make_request(), make_probe_result(), runner)
    assert (left.correct, left.count) == (2, 3)
    assert [rows for _, rows in runner.calls] == [[1, 2, 3]]


def test_no_image_is_right(make_request, make_probe_result):
    runner = ScriptedRunner([1] * 4, [1] * 4, {})
    left = stand_without_bounds(make_request(), make_probe_result(), runner)
    assert (left.correct, left.count, runner.calls) == (0, 0, [])


def test_checked_images_only(make_request, make_probe_result):
    many = {"images": np.full((203, 2, 1, 1), 0.5), "labels": np.zeros(203)}
    request = make_request(budget="full", **many)
    runner = ScriptedRunner([0] * 203, [0] * 203, {})
    assert stand_without_bounds(request, make_probe_result(), runner).count == 200

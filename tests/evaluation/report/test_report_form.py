import copy
import json

import pytest

from keras_advdef.evaluation import RobustnessReport, compare_reports
from keras_advdef.evaluation._report.report_form import check_report
from keras_advdef.evaluation._report.report_markdown import report_markdown
from keras_advdef.evaluation._report.report_plot import report_plot
from tests.support.report_values import corruptions, judgements, several_norms

# One value of each JSON type, and numbers too large to plot.
OTHERS = [None, True, -1, 0.5, 10**300, "$", [], [[]], {}, {"a": 1}]


def places(values, path=()):
    """Every place in JSON values, as a path of names and indices."""
    yield path
    if isinstance(values, (dict, list)):
        named = values.items() if isinstance(values, dict) else enumerate(values)
        for name, value in named:
            yield from places(value, (*path, name))


def changed(values, path, other):
    """The values with one of them replaced, or removed if `other` is `places`."""
    if not path:
        return other
    values = copy.deepcopy(values)
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    if other is places:
        del inner[path[-1]]
    else:
        inner[path[-1]] = other
    return values


@pytest.fixture(params=["one norm", "several norms"])
def any_values(request, report_values):
    """The reports on one norm, and on a random model under several."""
    if request.param == "one norm":
        return report_values
    report_values["adaptive"]["judgements"] = judgements()
    return {**report_values, **several_norms()}


def test_takes_reports(report, report_values):
    check_report(report_values)
    check_report({**report_values, **several_norms()})
    check_report({**report_values, "corruptions": corruptions()})
    check_report(report.data)
    check_report(json.loads(report.to_json()))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("headline",), 3, "headline is not text"),
        (("clean", "accuracy"), 1.5, r"accuracy is not a number in \[0, 1\]"),
        (("clean", "accuracy"), True, "accuracy is not a number"),
        (("curve",), [], "curve is a list of 0"),
        (("norm",), "$", "norm is not a norm"),
        (("norm",), [], "norm is not a norm"),
        (("value_range",), [0.0], "value_range is a list of 1"),
        (("checks", 1, "passed"), 0, "passed is not true or false"),
        (("seed",), places, "it lacks seed"),
        (("duties", "architecture"), [], "architecture is not an object"),
        (("adaptive", "judgements"), {"draws": 2}, "judgements lacks evaluations"),
        (("union",), 0, "it lacks norms"),
        (("corruptions",), 0, "corruptions is not an object"),
        (("norms",), [0, 0], r"norms\[0\] is not an object"),
        ((), [], "it is not an object"),
    ],
)
def test_says_what_is_wrong(report_values, path, value, said):
    with pytest.raises(ValueError, match=said):
        check_report(changed(report_values, path, value))


def test_what_is_taken_can_be_shown(any_values):
    """Any value at any place is either refused or shown without an error."""
    shown = 0
    for path in [*places(any_values)]:
        for other in (*OTHERS, places):
            values = changed(any_values, path, other)
            try:
                check_report(values)
            except ValueError:
                continue
            assert report_markdown(values).startswith("# Robustness report")
            report = RobustnessReport(values)
            assert "clean images" in compare_reports([report, report])
            shown += 1
    assert shown > 100


def test_corruptions_that_are_taken_can_be_shown(report_values):
    whole = {**report_values, "corruptions": corruptions()}
    whole["reference"] = {**whole["reference"], "corruptions": corruptions()}
    shown = 0
    for path in [*places(whole["corruptions"], ("corruptions",))]:
        for other in (*OTHERS, places):
            values = changed(whole, path, other)
            try:
                check_report(values)
            except ValueError:
                continue
            report = RobustnessReport(values)
            assert report.to_markdown().startswith("# Robustness report")
            assert "clean images" in compare_reports([report, report])
            if shown % 20 == 0 and report.corruptions is not None:
                report.corruptions.plot()
            shown += 1
    assert shown > 100


@pytest.mark.parametrize("largest", [0, 10**15])
def test_pictures_bear_the_largest_numbers(report_values, largest):
    for point in report_values["curve"]:
        point["epsilon"] = largest
    report_values.update(epsilon=largest, value_range=[-largest, largest])
    check_report(report_values)
    report_plot(report_values, None).canvas.draw()

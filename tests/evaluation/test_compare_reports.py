import re

import pytest

from keras_advdef.core.text import printable
from keras_advdef.evaluation import RobustnessReport, compare_reports
from keras_advdef.evaluation._report.curve_figure import curve_figure
from tests.support.hostile_text import HOSTILE_TEXT
from tests.support.rendered_markdown import only_text, rendered
from tests.support.report_values import corruptions, several_norms


def made_up(**changes):
    estimate = {"accuracy": 0.5, "interval": [0.4, 0.6], "count": 100, "attacks": []}
    return RobustnessReport(
        {
            "clean": {**estimate, "accuracy": 0.9, "interval": [0.8, 0.95]},
            "naive": estimate,
            "adaptive": {**estimate, "accuracy": 0.1, "interval": [0.05, 0.2]},
            "masking_suspected": True,
            "checks": [
                {"name": "a", "passed": False, "detail": "."},
                {"name": "b", "passed": None, "detail": "."},
            ],
            "duties": {"smallest_perturbation": {"median": 0.12345}},
            "curve": [
                {"epsilon": 0.0, **estimate},
                {"epsilon": 0.2, **estimate, "accuracy": 0.45},
            ],
            "headline": "Accuracy.",
            "run": {},
            "epsilon": 0.1,
            "norm": "linf",
            "value_range": [0.0, 1.0],
            "budget": "quick",
            "images": {"evaluated": 100, "given": 100},
            **changes,
        }
    )


def test_two_reports_side_by_side():
    honest = made_up(masking_suspected=False, checks=[])
    lines = compare_reports([made_up(), honest]).splitlines()
    assert lines[0] == "|  | undefended | defended |"
    assert "| clean images | 90.0 % [80.0, 95.0] | 90.0 % [80.0, 95.0] |" in lines
    assert "| all attacks | 10.0 % [5.0, 20.0] | 10.0 % [5.0, 20.0] |" in lines
    assert "| gradient masking suspected | yes | no |" in lines
    assert "| failed checks | a | none |" in lines
    assert "| median smallest perturbation | 31.5/255 | 31.5/255 |" in lines


def test_several_norms_side_by_side():
    several = made_up(**several_norms())
    lines = compare_reports([several, several]).splitlines()
    assert "| all attacks, l2 0.5 | 10.0 % [0.0, 45.0] | 10.0 % [0.0, 45.0] |" in lines
    assert "| any of the norms | 0.0 % [0.0, 31.0] | 0.0 % [0.0, 31.0] |" in lines
    assert "any of the norms" not in compare_reports([several, made_up()])


def test_corruptions_side_by_side():
    measured = made_up(corruptions=corruptions())
    row = (
        "| common corruptions, on average | 50.0 % [18.7, 81.3] | 50.0 % [18.7, 81.3] |"
    )
    assert row in compare_reports([measured, measured]).splitlines()
    assert "corruptions" not in compare_reports([measured, made_up()])


def test_names():
    assert "| 1 | 2 | 3 |" in compare_reports([made_up()] * 3)
    assert "| x | y |" in compare_reports([made_up()] * 2, names=["x", "y"])
    with pytest.raises(ValueError, match="as many as the reports, 2"):
        compare_reports([made_up()] * 2, names=["x"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.2),
        ("norm", "l2"),
        ("budget", "full"),
        ("value_range", [0, 255]),
        ("images", {"evaluated": 50, "given": 100}),
    ],
)
def test_what_cannot_be_compared_is_refused(name, value):
    with pytest.raises(ValueError, match=f"reports with the same {name}"):
        compare_reports([made_up(), made_up(**{name: value})])


def test_one_report_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        compare_reports([made_up()])


@pytest.mark.parametrize("smallest", [None, {"median": None}])
def test_unknown_smallest_perturbation(smallest):
    unknown = made_up(duties={"smallest_perturbation": smallest})
    table = compare_reports([made_up(), unknown])
    assert "| median smallest perturbation | 31.5/255 | unknown |" in table


@pytest.mark.parametrize("text", HOSTILE_TEXT)
def test_names_are_only_text(text):
    table = compare_reports([made_up()] * 2, names=[text, "y"])
    header = [token for token in rendered(table) if token.type == "inline"][:3]
    assert [*map(only_text, header)] == ["", printable(text).strip(), "y"]


@pytest.mark.parametrize("known", [{}, {"identity": 3}, {"identity": {"data": "a"}}])
def test_reports_of_other_images_are_refused(known):
    other = made_up(run={"identity": {"data": "b"}})
    if known == {"identity": {"data": "a"}}:
        with pytest.raises(ValueError, match="of the same images and labels"):
            compare_reports([made_up(run=known), other])
    else:
        assert compare_reports([made_up(run=known), other])


class TestPage:
    def test_tells_of_each_report(self):
        named = {"name": "hardened.keras", "parameters": None}
        honest = made_up(masking_suspected=False, checks=[], run={"model": named})
        page = compare_reports([made_up(), honest], ["before", "after"], html=True)
        assert "<b>before</b>: Of 100 images, the model gets 90 right; 10" in page
        assert "<dt>after</dt><dd>hardened.keras, unknown</dd>" in page
        # What is the same for all stands once.
        assert page.count("<dt>images</dt><dd>100</dd>") == 1
        assert page.count('<div class="bar"') == 2
        # Only the first has a failed check.
        assert page.count('class="trust doubt"') == 1
        assert '<td>90.0 % <span class="whole">[80.0, 95.0]</span></td>' in page
        assert page.count("data:image/png;base64,") == 2

    @pytest.mark.parametrize("text", HOSTILE_TEXT)
    def test_names_are_only_text(self, text):
        page = compare_reports([made_up()] * 2, names=[text, "y"], html=True)
        plain = compare_reports([made_up()] * 2, names=["x", "y"], html=True)
        assert re.findall("<[a-z]+", page) == re.findall("<[a-z]+", plain)


def test_curves_stand_in_one_plot():
    data = made_up().data
    axes = curve_figure(data, beside=[("before", data), ("after", data)]).axes
    (plot,) = axes
    assert len(plot.lines) == 3
    shown = [text.get_text() for text in plot.get_legend().get_texts()]
    assert shown == ["before", "after"]
    assert plot.get_xlim() == (0.0, 0.2)

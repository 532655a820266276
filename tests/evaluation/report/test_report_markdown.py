from itertools import filterfalse

import pytest

from keras_advdef.core.text import printable
from keras_advdef.evaluation._report.plain_words import plain_words
from keras_advdef.evaluation._report.report_markdown import (
    about,
    percent,
    report_markdown,
    report_tables,
)
from tests.support.hostile_text import HOSTILE_TEXT
from tests.support.hostile_values import with_text
from tests.support.rendered_markdown import only_text, rendered
from tests.support.report_values import corruptions, judgements, several_norms


@pytest.fixture
def data(report_values):
    """The report of a random model."""
    adaptive = {**report_values["adaptive"], "judgements": judgements()}
    return {**report_values, "adaptive": adaptive}


def test_headline_comes_first(data):
    text = report_markdown(data)
    opening, _, _ = text.partition("\n\n## ")
    assert opening.split("\n\n") == [
        "# Robustness report",
        "model: net.keras (1,200 parameters); data: the digits (8 x 8 x 1); images: "
        "10; attacker: linf, epsilon 0.1 (25.5/255); date: 2026-01-01",
        "Of 10 images, the model gets 9 right on average; 3 of them survive an "
        "attacker who may change every pixel by up to 25.5 of 255 levels.",
        "The reference, without the defence, gets 9 right; 0 of them survive such an "
        "attacker.",
        "Do not trust the second number: 1 of 2 checks found that attacks may fail on "
        "this model (input gradients), so a better attack may leave fewer images.",
        "**Accuracy under a \\| b**",
    ]


def test_opens_without_what_old_reports_lack(data):
    data["run"] = {}
    text = report_markdown(data)
    expected = "images: 10; attacker: linf, epsilon 0.1 (25.5/255); date: unknown"
    assert text.split("\n\n")[1] == expected


def test_classes_have_names(data):
    assert list(rows_of(data, "Accuracy per class")) == ["number 7"]
    data["class_names"] = None
    assert list(rows_of(data, "Accuracy per class")) == ["7"]


def test_every_row_is_as_long_as_its_header(data):
    tables = report_tables(data)
    assert len(tables) == 8
    for _, header, rows in tables:
        assert rows
        assert {len(row) for row in rows} == {len(header)}


def test_certified_accuracy(data):
    point = {"radius": 0.25, "accuracy": 0.5, "interval": [0.25, 0.75], "count": 8}
    certified = {"method": "a bound", "norm": "l2", "curve": [point]}
    rows = rows_of(
        {**data, "certified": certified},
        "Certified accuracy against l2 radius: a bound",
    )
    assert rows == {"0.25": ["50.0 % [25.0, 75.0]", "8"]}


def test_corruptions(data):
    data["corruptions"] = corruptions()
    rows = rows_of(data, "Accuracy with common corruptions")
    mild, severe, mean = "80.0 % [44.4, 97.5]", "20.0 % [2.5, 55.6]", "50.0 % [18.7"
    assert [*rows] == ["Gaussian noise", "fog"]
    assert rows["fog"][:2] == [mild, severe]
    assert rows["fog"][2].startswith(mean)
    text = report_markdown(data)
    assert f"With common corruptions instead of an attack: {mean}" in text
    assert "common corruptions, on average" not in text
    data["corruptions"] = None
    assert "corruptions" not in report_markdown(data)


def test_corruptions_of_the_reference(data):
    data["corruptions"] = corruptions()
    other = corruptions()
    other["corruptions"][1]["severities"] = other["corruptions"][1]["severities"][:1]
    data["reference"]["corruptions"] = other
    rows = rows_of(data, "Accuracy with common corruptions")
    assert rows["Gaussian noise"][-1] == rows["Gaussian noise"][-2]
    assert rows["fog"][-1] == "80.0 % [44.4, 97.5]"
    # The mean of 80, 20 and 80 percent.
    beside = rows_of(data, "The model beside the reference")
    ours, theirs = beside["common corruptions, on average"]
    assert ours.startswith("50.0 %")
    assert theirs.startswith("60.0 %")


def test_several_norms(data):
    text = report_markdown({**data, **several_norms()})
    assert (
        "**Accuracy under a \\| b**\n\n**Accuracy is left \\| in linf.**\n\n## " in text
    )
    rows = rows_of(
        {**data, **several_norms()},
        "Accuracy under each norm, worst case for each image",
    )
    assert rows == {
        "linf": ["25.5/255", "30.0 % [7.0, 65.0]", "none"],
        "l2": ["0.5", "10.0 % [0.0, 45.0]", "more steps, no detector"],
        "any of them": ["", "0.0 % [0.0, 31.0]", ""],
    }


def test_verdicts_and_draws(data):
    text = report_markdown(data)
    for check in data["checks"]:
        assert f"| {check['name'].replace('_', ' ')} | " in text
        assert check["detail"] in text
    assert "| not run |" in text
    drawn = "all attacks, worst case for each image, mean of 10 fresh draws of the"
    assert f"| {drawn} model | 30.0 % [7.0, 65.0] | 10 |" in text
    for name in ("right in all of the draws", "by majority vote"):
        assert f"| all attacks, {name} | 20.0 % [2.0, 56.0] | 10 |" in text
    assert "| epsilon | accuracy (mean over draws) | reference | images |" in text
    assert "## Accuracy against epsilon\n" in text
    assert "| defences in the model | RandomNoise |" in text


def test_curve_on_fewer_images_than_the_headline_says_so(data):
    for point in data["curve"]:
        point["count"] = 5
    text = report_markdown(data)
    assert "## Accuracy against epsilon, on the first 5 images\n" in text


def test_findings_name_classes(data):
    data["checks"][0]["detail"] = "For 3 of 9 images of class 2."
    data["headline"] = "The model predicts class 1 for every image."
    assert "class 2 (number 2)." in report_markdown(data)
    assert "**The model predicts class 1 (number 1) for" in report_markdown(data)


def test_percent():
    estimate = {"accuracy": 0.5, "interval": [0.25, 1.0]}
    assert percent(estimate) == "50.0 % [25.0, 100.0]"


@pytest.mark.parametrize("text", HOSTILE_TEXT)
def test_text_stays_text(data, text):
    point = {"radius": 0.25, "accuracy": 0.5, "interval": [0.25, 0.75], "count": 8}
    data["certified"] = {"method": "a bound", "norm": "l2", "curve": [point]}
    data = with_text({**data, **several_norms()}, text)
    tables = report_tables(data)
    markdown = report_markdown(data)
    assert set(filterfalse(str.isprintable, markdown)) == {"\n"}
    kinds = {token.type.partition("_")[0] for token in rendered(markdown)}
    kinds -= {"paragraph", "inline"}
    assert kinds == {"heading", "table", "thead", "tbody", "tr", "th", "td"}
    inlines = [token for token in rendered(markdown) if token.type == "inline"]
    for _ in ("headline", "finding"):
        bold = "".join(each.content for each in inlines.pop(5).children)
        assert bold == printable(text).strip()
    facts = "; ".join(f"{name}: {value}" for name, value in about(data))
    words = plain_words(data)
    expected = ["Robustness report", facts, *filter(None, words.sentences)]
    for title, header, rows in tables:
        expected += [title, *header, *(cell for row in rows for cell in row)]
    assert [*map(only_text, inlines)] == [each.strip() for each in expected]


def rows_of(data, title):
    """The rows of a table by their first cell."""
    (rows,) = (rows for name, _, rows in report_tables(data) if name == title)
    return {row[0]: row[1:] for row in rows}


class TestDefenceCosts:
    TITLE = "Costs and benefits of the defence"

    def test_with_a_reference(self, report_values):
        assert rows_of(report_values, self.TITLE) == {
            "layers added": ["2"],
            "parameters added": ["unknown"],
            "clean accuracy relative to the reference": ["-10.0 points [-25.0, +5.0]"],
            "inference time relative to the reference": ["1.25 times"],
            "accuracy at epsilon 12.8/255": ["50.0 % [19.0, 81.0]"],
            "median smallest perturbation": ["3.14/255 (FAB-20, 8 images)"],
        }

    def test_without(self, report_values):
        duties = report_values["duties"]
        duties["clean_accuracy_change"] = duties["smallest_perturbation"] = None
        report_values["run"] = {}
        rows = rows_of(report_values, self.TITLE)
        for name in ("clean accuracy", "inference time"):
            found = rows[f"{name} relative to the reference"]
            assert found == ["not measured: no reference model"]
        assert rows["median smallest perturbation"] == ["not measured"]

    def test_images_without_a_perturbation(self, report_values):
        report_values["duties"]["smallest_perturbation"]["median"] = None
        rows = rows_of(report_values, self.TITLE)
        expected = "none found for at least half of the images (FAB-20, 8 images)"
        assert rows["median smallest perturbation"] == [expected]


def test_attacks_and_skipped_attacks(report_values):
    rows = rows_of(report_values, "Attacks")
    purposes = "ignores the defence; many steps, to compare with one"
    assert rows["PGD-20"] == [purposes, "9", "50.0 points"]
    assert rows["Square-200"] == ["needs no gradient", "9", "10.0 points"]
    assert rows["transfer"] == ["skipped: no surrogate given", "-", "-"]


def test_facts(report_values):
    rows = rows_of(report_values, "How it was measured")
    assert rows["threat model"] == ["linf, epsilon 0.1 (25.5/255)"]
    assert rows["images"] == ["10 of 12 given"]
    assert rows["versions"] == ["keras 3, numpy 2"]
    assert rows["duration"] == ["12 s"]
    report_values["defences"] = []
    rows = rows_of(report_values, "How it was measured")
    assert rows["defences in the model"] == ["none of this package"]


class TestReference:
    TITLE = "The model beside the reference"

    def test_both_accuracies(self, report_values):
        assert rows_of(report_values, self.TITLE) == {
            "clean images": ["90.0 % [55.0, 100.0]"] * 2,
            "attacked, at epsilon 25.5/255": [
                "30.0 % [7.0, 65.0]",
                "0.0 % [0.0, 31.0]",
            ],
            "attacks": ["all of this report", "PGD-20, APGD-25"],
        }
        text = report_markdown(report_values)
        assert "|  | model: net.keras | reference: plain.keras |" in text

    def test_both_curves(self, report_values):
        del report_values["reference"]["curve"][0]
        rows = rows_of(report_values, "Accuracy against epsilon")
        assert rows["0"] == ["90.0 % [55.0, 100.0]", "-", "10"]
        assert rows["25.5/255"] == ["30.0 % [7.0, 65.0]", "50.0 % [19.0, 81.0]", "10"]

    def test_none(self, report_values):
        report_values["reference"] = None
        titles = [title for title, *_ in report_tables(report_values)]
        assert self.TITLE not in titles
        rows = rows_of(report_values, "Accuracy against epsilon")
        assert rows["0"] == ["90.0 % [55.0, 100.0]", "10"]

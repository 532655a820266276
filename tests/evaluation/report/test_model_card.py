import pytest

from keras_advdef.core.cards import all_cards
from keras_advdef.evaluation import RobustnessReport
from keras_advdef.evaluation._report.model_card import model_card
from tests.support.hostile_text import HOSTILE_TEXT
from tests.support.hostile_values import with_text
from tests.support.rendered_markdown import rendered


def block(card):
    """The lines of the metadata."""
    assert card.startswith("---\n")
    return card[4 : card.index("\n---\n", 4)].splitlines()


class TestModelCard:
    def test_metadata(self, report_values):
        lines = block(model_card(report_values))
        assert lines[:8] == [
            "library_name: keras",
            "pipeline_tag: image-classification",
            "tags:",
            "- keras",
            "- image-classification",
            "- adversarial-robustness",
            "metrics:",
            "- accuracy",
        ]
        assert lines[8:] == [
            "model-index:",
            '- name: "net.keras"',
            "  results:",
            "  - task:",
            "      type: image-classification",
            "    dataset:",
            '      type: "the-digits"',
            '      name: "the digits"',
            "    metrics:",
            "    - type: accuracy",
            "      value: 0.9",
            '      name: "clean accuracy"',
            "    - type: accuracy",
            "      value: 0.3",
            '      name: "accuracy under attack, linf epsilon 25.5/255"',
        ]

    def test_says_what_the_report_and_the_cards_say(self, report_values):
        card = model_card(report_values)
        noise = all_cards()["RandomNoise"]
        assert "# net.keras\n" in card
        assert "Of 10 images, the model gets 9 right" in card
        assert "### RandomNoise" in card
        assert noise.summary in card
        assert f"Standing today: {noise.standing}." in card
        assert "## Sanity checks" in card
        assert "## Attacks" not in card

    def test_unknown_defences_have_only_their_names(self, report_values):
        report_values["defences"] = ["DefenceOfTomorrow"]
        assert "### DefenceOfTomorrow\n\n## " in model_card(report_values)
        report_values["defences"] = []
        assert "Defences in the model" not in model_card(report_values)

    def test_old_reports_name_nothing(self, report_values):
        report_values["run"] = {}
        lines = block(model_card(report_values))
        assert '      type: "images"' in lines
        assert '- name: "image classifier"' in lines

    @pytest.mark.parametrize("text", HOSTILE_TEXT)
    def test_text_stays_text(self, report_values, text):
        card = model_card(with_text(report_values, text))
        plain = model_card(with_text(report_values, "x"))
        shapes = [
            [line.partition('"')[0] for line in block(each)] for each in (card, plain)
        ]
        assert shapes[0] == shapes[1]
        _, _, body = card[4:].partition("\n---\n")
        kinds = {token.type.partition("_")[0] for token in rendered(body)}
        assert kinds <= {
            *("paragraph", "inline", "heading", "table", "thead", "tbody", "tr"),
            *("th", "td"),
        }


def test_is_written_on_demand(report, tmp_path):
    report.save(tmp_path)
    assert not (tmp_path / "model_card.md").exists()
    report.save(tmp_path, model_card=True)
    written = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert written == report.to_model_card()
    assert RobustnessReport.load(tmp_path).to_model_card() == written

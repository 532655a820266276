import numpy as np
import pytest
from scipy import stats

from keras_advdef.core.text import printable
from keras_advdef.evaluation import DetectionReport
from tests.support.hostile_text import HOSTILE_TEXT
from tests.support.rendered_markdown import only_text, rendered


@pytest.fixture
def report():
    generator = np.random.default_rng(0)
    # Rounded, so that some scores are equal.
    clean = generator.uniform(0, 1, 60).round(1)
    attacked = generator.uniform(0.3, 1.6, 40).round(1)
    scores = {"PGD": attacked, "none": np.zeros(0)}
    return DetectionReport(0.9, clean, scores, {"PGD": 50, "none": 50})


class TestDetectionReport:
    def test_auc_is_that_of_mann_and_whitney(self, report):
        count = len(report.clean) * len(report.attacked["PGD"])
        larger = stats.mannwhitneyu(report.attacked["PGD"], report.clean).statistic
        assert report.auc("PGD") == pytest.approx(larger / count)

    def test_roc_rises_from_nothing_to_everything(self, report):
        false, true = report.roc("PGD")
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
        assert (np.diff(false) >= 0).all()
        assert (np.diff(true) >= 0).all()

    def test_rates_count_what_is_strictly_above(self, report):
        scores = report.attacked["PGD"]
        assert (scores == 0.9).any()
        assert report.detection_rate("PGD").correct == (scores > 0.9).sum()
        assert report.false_positive_rate.correct == (report.clean > 0.9).sum()
        unnoticed = report.unnoticed("PGD")
        assert (unnoticed.correct, unnoticed.count) == ((scores <= 0.9).sum(), 50)

    def test_an_attack_without_success_has_no_rate(self, report):
        assert report.detection_rate("none") is None
        assert report.auc("none") is None
        assert report.unnoticed("none").correct == 0

    def test_table_and_json(self, report):
        text = report.to_markdown()
        assert "| PGD" in text
        assert "40 of 50" in text
        assert f"{report.auc('PGD'):.4f}" in text
        found = report.to_json()["attacks"]
        assert found["PGD"]["fooled"] == 40
        assert found["none"]["detection_rate"] is None

    def test_plot_has_a_curve_for_each_attack_with_a_success(self, report):
        pytest.importorskip("matplotlib", reason="needs the extra `all`")
        (axes,) = report.plot().axes
        texts = [text.get_text() for text in axes.get_legend().get_texts()]
        assert [text.split(" ")[0] for text in texts] == ["PGD", "threshold"]

    @pytest.mark.parametrize("name", HOSTILE_TEXT)
    def test_names_are_only_text(self, report, name):
        pytest.importorskip("matplotlib", reason="needs the extra `all`")
        scores = {name: report.attacked["PGD"]}
        report = DetectionReport(0.9, report.clean, scores, {name: 50})
        inlines = [t for t in rendered(report.to_markdown()) if t.type == "inline"]
        assert only_text(inlines[6]) == printable(name).strip()
        figure = report.plot()
        first, _ = figure.axes[0].get_legend().get_texts()
        # How matplotlib reads it: as a formula, or as text without its escapes.
        text, is_formula = first._preprocess_math(first.get_text())
        assert not is_formula
        assert text.strip() == f"{printable(name)} (AUC {report.auc(name):.3f})".strip()

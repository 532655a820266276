import json

import numpy as np
import pytest

from keras_advdef.evaluation import AccuracyEstimate, CorruptionReport
from keras_advdef.evaluation.corruption_report import title_of


def estimates(*correct):
    pairs = zip((1, 3, 5), correct, strict=True)
    return {severity: AccuracyEstimate(each, 20) for severity, each in pairs}


@pytest.fixture
def report():
    image = np.full((4, 4, 1), 0.5)
    return CorruptionReport(
        clean=AccuracyEstimate(19, 20),
        accuracies={
            "gaussian_noise": estimates(18, 14, 11),
            "jpeg_compression": estimates(19, 3, 16),
        },
        seed=7,
        examples={
            "none": image,
            "gaussian_noise": image,
            "jpeg_compression": image,
        },
    )


class TestCorruptionReport:
    def test_from_json(self, report):
        values = json.loads(json.dumps(report.to_json()))
        again = CorruptionReport.from_json(values, report.examples)
        assert again.to_json() == report.to_json()
        assert again.examples == report.examples
        assert CorruptionReport.from_json(values).examples == {}

    def test_means(self, report):
        assert report.severities == (1, 3, 5)
        assert report.mean["accuracy"] == pytest.approx(81 / 120)
        assert report.mean_of("gaussian_noise")["accuracy"] == pytest.approx(43 / 60)
        # The interval is that of 14 of 20 images, the nearest whole number.
        assert report.mean["interval"] == [*AccuracyEstimate(14, 20).interval]
        assert report.mean["count"] == 20

    def test_lowest(self, report):
        assert report.lowest == ("jpeg_compression", 3)

    def test_json(self, report):
        found = json.loads(json.dumps(report.to_json()))
        first, second = found["corruptions"]
        assert first["name"] == "gaussian_noise"
        assert second["severities"][1] == {
            "severity": 3,
            **AccuracyEstimate(3, 20).to_json(),
        }
        assert first["mean"] == report.mean_of("gaussian_noise")
        assert found["clean"]["accuracy"] == 0.95
        assert found["seed"] == 7

    def test_markdown(self, report):
        sentence, _, header, _, first, second = report.to_markdown().splitlines()
        assert sentence == report.finding
        assert "67.5 % [45.7, 88.1] on average, against 95.0 % [75.1" in sentence
        assert "lowest with JPEG compression of severity 3: 15.0 %" in sentence
        assert header == (
            "| corruption | severity 1 | severity 3 | severity 5 | mean |"
        )
        assert first.startswith("| Gaussian noise | 90.0 % [68.3, 98.8] | 70.0 %")
        assert second.startswith("| JPEG compression | 95.0 %")

    def test_plot(self, report):
        pytest.importorskip("matplotlib", reason="needs the extra `all`")
        (axes,) = report.plot().axes
        texts = [text.get_text() for text in axes.texts]
        start = texts.index("JPEG compression")
        assert texts[start : start + 5] == ["JPEG compression", "95", "15", "80", "63"]
        assert len(axes.get_images()) == 3

    def test_plot_without_examples(self, report):
        pytest.importorskip("matplotlib", reason="needs the extra `all`")
        plain = CorruptionReport(clean=report.clean, accuracies=report.accuracies)
        (axes,) = plain.plot().axes
        assert not axes.get_images()

    def test_save(self, report, tmp_path):
        pytest.importorskip("matplotlib", reason="needs the extra `all`")
        report.save(tmp_path / "new")
        names = sorted(path.name for path in (tmp_path / "new").iterdir())
        assert names == ["corruptions.json", "corruptions.md", "corruptions.png"]
        text = (tmp_path / "new" / "corruptions.json").read_text(encoding="utf-8")
        assert json.loads(text) == report.to_json()
        page = (tmp_path / "new" / "corruptions.md").read_text(encoding="utf-8")
        assert report.to_markdown() in page


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("gaussian_noise", "Gaussian noise"),
        ("jpeg_compression", "JPEG compression"),
        ("fog", "fog"),
    ],
)
def test_title_of(kind, title):
    assert title_of(kind) == title

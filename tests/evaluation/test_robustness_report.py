import numpy as np
import pytest

from keras_advdef.evaluation import RobustnessReport


class TestRobustnessReport:
    def test_save_and_load(self, report, tmp_path):
        report.save(tmp_path / "new" / "folder")
        loaded = RobustnessReport.load(tmp_path / "new" / "folder")
        assert loaded.data == report.data
        np.testing.assert_array_equal(loaded.gallery.norms, report.gallery.norms)
        assert loaded.to_markdown() == report.to_markdown()

    def test_properties_are_those_of_the_data(self, report):
        for name in ("headline", "masking_suspected", "clean", "naive", "adaptive"):
            assert getattr(report, name) == report.data[name]
        assert report.checks == report.data["checks"]
        assert report.headline in repr(report)

    def test_nothing_is_half_written(self, report, tmp_path, monkeypatch):
        monkeypatch.setattr(RobustnessReport, "to_html", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            report.save(tmp_path)
        assert not (tmp_path / "report.json").exists()
        assert not list(tmp_path.glob(".partial*"))

    def test_load_nothing(self, tmp_path):
        with pytest.raises(OSError, match=r"report\.json"):
            RobustnessReport.load(tmp_path)

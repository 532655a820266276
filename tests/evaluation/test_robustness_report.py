import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_advdef.evaluation import RobustnessReport
from keras_advdef.evaluation._report.seal import Seal
from tests.support.damages import BYTES
from tests.support.marks import needs_pipes
from tests.support.report_values import corruptions


class TestRobustnessReport:
    def test_save_and_load(self, report, tmp_path):
        report.save(tmp_path / "new" / "folder")
        loaded = RobustnessReport.load(tmp_path / "new" / "folder")
        assert loaded.data == report.data
        np.testing.assert_array_equal(loaded.gallery.norms, report.gallery.norms)
        np.testing.assert_array_equal(loaded.example.clean, report.example.clean)
        assert loaded.images == report.images
        assert len(report.images.splitlines()) == 11
        assert loaded.to_markdown() == report.to_markdown()

    def test_save_and_load_corruptions(self, report, tmp_path, monkeypatch):
        monkeypatch.setattr(RobustnessReport, "plot", lambda self: Figure())
        monkeypatch.setattr(RobustnessReport, "to_html", lambda self: "")
        assert report.corruptions is None
        report.data["corruptions"] = corruptions()
        report.corrupted = {
            name: np.full((4, 4, 1), share)
            for name, share in (("none", 0.0), ("gaussian_noise", 0.2), ("fog", 1.0))
        }
        report.save(tmp_path)
        assert (tmp_path / "corruptions.png").stat().st_size > 1000
        loaded = RobustnessReport.load(tmp_path)
        assert loaded.corruptions.lowest == ("gaussian_noise", 5)
        for name, image in report.corrupted.items():
            np.testing.assert_allclose(loaded.corruptions.examples[name], image)
        BYTES["flipped"](tmp_path / "corruptions.npz")
        with pytest.raises(ValueError, match=r"corruptions\.npz in it is damaged"):
            RobustnessReport.load(tmp_path)

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

    @pytest.mark.parametrize(
        "name", ["report.json", "gallery.npz", "example.npz", "images.csv"]
    )
    def test_load_what_is_damaged(self, name, report, tmp_path, monkeypatch):
        monkeypatch.setattr(RobustnessReport, "plot", lambda self: Figure())
        report.save(tmp_path)
        BYTES["flipped"](tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} in it is damaged"):
            RobustnessReport.load(tmp_path)

    @needs_pipes
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "report.json")
        with pytest.raises(ValueError, match=r"report\.json in it.*not a regular file"):
            RobustnessReport.load(tmp_path)

    def test_load_other_values(self, report, tmp_path):
        (tmp_path / "report.json").write_text("{}")
        with pytest.raises(ValueError, match="It is not a report: it lacks head"):
            RobustnessReport.load(tmp_path)
        report.data["epsilon"] = "large"
        (tmp_path / "report.json").write_text(report.to_json())
        with pytest.raises(ValueError, match="It is not a report: epsilon is not a"):
            RobustnessReport.load(tmp_path)

    def test_load_another_gallery(self, report, tmp_path):
        # Sound by its checksum, which anybody can compute.
        (tmp_path / "report.json").write_text(report.to_json())
        np.savez(tmp_path / "gallery.npz", clean=np.zeros(3))
        Seal.write(tmp_path, {}, ["report.json", "gallery.npz"])
        with pytest.raises(ValueError, match=r"gallery\.npz in it.*It lacks adversar"):
            RobustnessReport.load(tmp_path)

    def test_load_the_json_alone(self, report, tmp_path):
        (tmp_path / "report.json").write_text(report.to_json())
        loaded = RobustnessReport.load(tmp_path)
        assert loaded.data == report.data
        assert loaded.gallery is None
        BYTES["truncated"](tmp_path / "report.json")
        with pytest.raises(ValueError, match=r"report\.json in it is damaged"):
            RobustnessReport.load(tmp_path)

"""Whatever a finished evaluation's folder holds, a run returns a report or explains."""

import errno
import os
import shutil

import numpy as np
import pytest

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import RobustnessReport
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.finished_report import (
    finished_report,
    renamed,
    save_report,
)
from tests.support.damages import BYTES, DAMAGES
from tests.support.told import Told

IDENTITY = {"model": "a", "seed": 0}
KEPT = ["example.npz", "gallery.npz", "images.csv"]
FILES = [*KEPT, *(f"report.{each}" for each in ("html", "json", "md", "png"))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, report_values_of):
    """The folder of a finished evaluation, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    data = report_values_of()
    data["run"]["identity"] = IDENTITY
    shown = {"gallery": _gallery(), "example": _gallery()}
    RobustnessReport(data, images="index\n0\n", **shown).save(folder)
    return folder


def _gallery():
    images = np.full((2, 8, 8, 1), 0.5, np.float32)
    return Gallery(
        clean=images,
        adversarial=images,
        norms=np.zeros(2, np.float32),
        labels=np.arange(2),
        predicted=np.arange(2),
    )


@pytest.fixture
def folder(finished, tmp_path):
    copied = tmp_path / "out"
    shutil.copytree(finished, copied)
    return copied


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


class TestFinishedReport:
    def test_whole_one_is_returned(self, folder):
        told = Told()
        report = finished_report(folder, IDENTITY, told)
        assert report.headline == "Accuracy under a | b"
        assert report.gallery is not None
        assert told.lines == [
            "This evaluation has already finished; returning its report."
        ]
        assert names_in(folder) == [*FILES, "seal.json"]

    def test_nothing_there(self, tmp_path):
        told = Told()
        assert finished_report(tmp_path / "none", IDENTITY, told) is None
        assert told.lines == []

    @pytest.mark.parametrize("name", ["report.json", *KEPT, "seal.json"])
    @pytest.mark.parametrize("damage", [*BYTES, "gone"])
    def test_without_what_it_is_drawn_from_it_is_lost(self, name, damage, folder):
        DAMAGES[damage](folder / name)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        told = Told()
        assert finished_report(folder, IDENTITY, told) is None
        assert told.lines == [
            f"In the existing report, {name} is missing or damaged; running the "
            "evaluation again."
        ]
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    @pytest.mark.parametrize("name", ["report.png", "report.md", "report.html"])
    @pytest.mark.parametrize("damage", [*BYTES, "gone"])
    def test_what_is_drawn_is_drawn_again(self, name, damage, folder, finished):
        DAMAGES[damage](folder / name)
        told = Told()
        report = finished_report(folder, IDENTITY, told)
        assert report.headline == "Accuracy under a | b"
        assert told.lines[0] == (
            f"In the existing report, {name} is missing, damaged or changed; rewriting."
        )
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
        assert names_in(folder) == [*FILES, "seal.json"]

    def test_model_card_is_drawn_again(self, folder):
        report = RobustnessReport.load(folder)
        report.save(folder, model_card=True)
        card = (folder / "model_card.md").read_bytes()
        (folder / "model_card.md").unlink()
        told = Told()
        finished_report(folder, IDENTITY, told)
        assert "model_card.md is missing, damaged or changed" in told.lines[0]
        assert (folder / "model_card.md").read_bytes() == card

    def test_several_are_named_together(self, folder):
        for name in ("report.html", "report.md", "report.png"):
            (folder / name).unlink()
        told = Told()
        finished_report(folder, IDENTITY, told)
        assert told.lines[0] == (
            "In the existing report, report.html, report.md and report.png are "
            "missing, damaged or changed; rewriting."
        )

    @pytest.mark.parametrize("name", [*FILES, "seal.json"])
    def test_folder_in_the_place_of_a_file_is_refused(self, name, folder):
        DAMAGES["folder"](folder / name)
        with pytest.raises(ValueError, match=f"{name} in it is a folder; move it away"):
            finished_report(folder, IDENTITY, Progress())
        assert (folder / name / "mine.txt").read_text() == "mine"

    @pytest.mark.parametrize("damage", ["none", *BYTES])
    def test_another_evaluation_is_refused_however_damaged(self, damage, folder):
        if damage in BYTES:
            BYTES[damage](folder / "report.json")
        with pytest.raises(ValueError, match="has another seed; choose a new one"):
            finished_report(folder, {**IDENTITY, "seed": 1}, Progress())

    def test_another_evaluation_without_its_seal_is_refused(self, folder):
        (folder / "seal.json").unlink()
        with pytest.raises(ValueError, match="has another seed; choose a new one"):
            finished_report(folder, {**IDENTITY, "seed": 1}, Progress())

    @pytest.mark.parametrize(
        "text", ["", "{}", "[]", '{"run": 3}', '{"run": {"identity": 3}}', "[" * 9999]
    )
    def test_file_of_another_origin_is_refused(self, text, tmp_path):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(ValueError, match=r"without a foreign report\.json"):
            finished_report(tmp_path, IDENTITY, Progress())
        assert (tmp_path / "report.json").read_text() == text


def test_full_disk_is_a_sentence(folder, monkeypatch):
    report = RobustnessReport.load(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"No space left on device\. Finished par"):
        save_report(report, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


class TestRenamed:
    def test_other_names_are_written(self, folder):
        report = RobustnessReport.load(folder)
        names = [f"class {each}" for each in range(8)]
        renamed(report, folder, class_names=names, data_name="photographs")
        again = RobustnessReport.load(folder)
        assert again.data["class_names"] == names
        assert again.data["run"]["data"]["name"] == "photographs"
        assert "class 7" in (folder / "report.html").read_text(encoding="utf-8")

    def test_the_same_names_write_nothing(self, folder):
        report = RobustnessReport.load(folder)
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        names = tuple(report.data["class_names"])
        renamed(report, folder, class_names=names, data_name="")
        renamed(report, folder, class_names=None, data_name="the digits")
        after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert after == before

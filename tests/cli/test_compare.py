"""The command `compare`, on reports made by hand."""

import pytest
from typer.testing import CliRunner

from keras_advdef.evaluation import RobustnessReport
from keras_advdef_command.app import app
from tests.support.report_values import small_report


@pytest.fixture
def compare(tmp_path):
    """Compares two reports, the second with some changes."""

    def run(*flags, **changes):
        for name, values in (("plain", {}), ("hardened", changes)):
            folder = tmp_path / name
            folder.mkdir()
            text = RobustnessReport({**small_report(), **values}).to_json()
            (folder / "report.json").write_text(text)
        folders = [str(tmp_path / name) for name in ("plain", "hardened")]
        output = ["--output", str(tmp_path / "out")]
        return CliRunner().invoke(app, ["compare", *folders, *output, *flags])

    return run


def test_writes_a_page_and_a_table(compare, tmp_path):
    result = compare()
    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("plain", "hardened", "90.0 % [55.0, 100.0]", "comparison.html"):
        assert text in result.stdout
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table.startswith("|  | plain | hardened |\n")
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<b>hardened</b>: Of 10 images" in page


def test_names(compare, tmp_path):
    assert compare("--names", "before,[bold]after").exit_code == 0
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table.startswith("|  | before | [bold]after |\n")


def test_reports_that_cannot_be_compared(compare, tmp_path):
    result = compare(epsilon=0.2)
    assert result.exit_code == 2
    assert "reports with the same epsilon" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_report(compare, tmp_path):
    result = compare(norm="l3")
    assert result.exit_code == 2
    assert "report.json in it is damaged" in result.stderr
    assert not (tmp_path / "out").exists()

"""What is generated is up to date, and the command that checks it says what is not."""

import pytest

from tests.golden import refresh


@pytest.mark.parametrize("path", refresh.GENERATED, ids=lambda path: path.name)
def test_generated_file_is_up_to_date(path):
    text = refresh.GENERATED[path]()
    assert path.read_text(encoding="utf-8") == text, f"run `{refresh.COMMAND}`"


@pytest.fixture
def stale_file(tmp_path, monkeypatch):
    path = tmp_path / "page.md"
    path.write_text("old", encoding="utf-8")
    monkeypatch.setattr(refresh, "ROOT", tmp_path)
    monkeypatch.setattr(refresh, "GENERATED", {path: lambda: "new"})
    return path


def test_check_names_what_is_stale_and_the_command(stale_file, capsys):
    assert refresh.main(["--check"]) == 1
    printed = capsys.readouterr().out
    assert "page.md: out of date\n" in printed
    assert "Run `python -m tests.golden.refresh`" in printed
    assert stale_file.read_text(encoding="utf-8") == "old"


@pytest.mark.usefixtures("stale_file")
def test_check_names_what_is_missing(stale_file):
    stale_file.unlink()
    assert refresh.main(["--check"]) == 1


def test_refresh_writes_what_is_stale(stale_file, capsys):
    assert refresh.main([]) == 0
    assert stale_file.read_text(encoding="utf-8") == "new"
    assert capsys.readouterr().out == "page.md: written\n"
    assert refresh.main(["--check"]) == 0
    assert capsys.readouterr().out == ""

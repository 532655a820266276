"""Generated files are up to date, and the command names those that are not."""

import pytest

import keras_advdef
from tests.golden import refresh
from tests.golden.exports import export_imported_names, exports_text

# `test_api.py` compares the public names, and shows what has changed.
_PAGES = [path for path in refresh.GENERATED if path != refresh.API]
_NAME = {path: path.relative_to(refresh.ROOT).as_posix() for path in _PAGES}


@pytest.mark.parametrize("path", _PAGES, ids=_NAME.get)
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


def test_imported_names_are_exported_in_order(tmp_path):
    path = tmp_path / "__init__.py"
    path.write_text(
        "from keras_advdef.layers.b import b_function\n"
        "from keras_advdef.layers.new import Newcomer\n"
        "from keras_advdef.layers.pgd import PGD\n\n"
        '__all__ = [\n    "PGD",\n    "gone",\n]\n',
        encoding="utf-8",
    )
    before, after = exports_text(path).split("\n\n")
    assert before.count("import") == 3
    assert after == '__all__ = ["PGD", "Newcomer", "b_function"]\n'


def test_long_lists_of_exports_stand_one_in_a_line(tmp_path):
    path = tmp_path / "__init__.py"
    names = [f"Name{number}OfSomeLength" for number in range(5)]
    lines = [f"from keras_advdef.layers.{name.lower()} import {name}" for name in names]
    path.write_text("\n".join([*lines, "", "__all__ = []", ""]), encoding="utf-8")
    expected = "".join(f'    "{name}",\n' for name in names)
    assert exports_text(path).endswith(f"\n__all__ = [\n{expected}]\n")


def test_imported_names_are_public_at_once(monkeypatch):
    whole = keras_advdef.layers.__all__
    monkeypatch.setattr(keras_advdef.layers, "__all__", ["InputTransform"])
    export_imported_names()
    assert keras_advdef.layers.__all__ == whole

import pytest

from keras_advdef.core.written import write_text, write_whole


def test_replaces_what_lies_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(partial):
        partial.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_partial_file_keeps_the_suffix(tmp_path):
    seen = []
    write_whole(tmp_path / "a.png", lambda p: (seen.append(p.suffix), p.touch()))
    assert seen == [".png"]

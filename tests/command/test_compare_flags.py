import pytest

from keras_advdef_command.compare_flags import CompareFlags
from keras_advdef_command.refusal import RefusedArgument


@pytest.fixture
def flags(tmp_path):
    """Makes flags for reports in some folders, with some changes."""

    def make(*folders, **changes):
        for name in folders:
            (tmp_path / name).mkdir()
            (tmp_path / name / "report.json").touch()
        paths = [tmp_path / name for name in folders]
        settings = {"reports": paths, "output": tmp_path / "out", **changes}
        return CompareFlags(**settings)

    return make


def test_reports_are_called_like_their_folders(flags):
    found = flags("a", "b")
    found.check()
    assert found.titles() == ["a", "b"]


def test_names(flags):
    found = flags("a", "b", names="undefended, hardened")
    found.check()
    assert found.titles() == ["undefended", "hardened"]


@pytest.mark.parametrize(
    ("folders", "changes", "said"),
    [
        (("a",), {}, "`REPORTS` to be two folders or more"),
        (("a", "b"), {"names": "one"}, "`--names` to be 2 names"),
        (("a", "b"), {"names": "one,two,three"}, "`--names` to be 2 names"),
    ],
)
def test_refuses(flags, folders, changes, said):
    with pytest.raises(RefusedArgument, match=said):
        flags(*folders, **changes).check()


def test_refuses_folders_without_a_report(flags, tmp_path):
    (tmp_path / "b").mkdir()
    found = flags("a", reports=[tmp_path / "a", tmp_path / "b"])
    with pytest.raises(RefusedArgument, match=r"with report\.json in each.*b'"):
        found.check()


def test_refuses_an_output_below_a_file(flags, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RefusedArgument, match="--output"):
        flags("a", "b", output=tmp_path / "file" / "out").check()

"""The version has one source, and every file that repeats it agrees."""

import datetime
import re
from pathlib import Path

import keras_advdef

_ROOT = Path(__file__).parents[1]
_RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)
_SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def _text(name):
    return (_ROOT / name).read_text(encoding="utf-8")


def _releases():
    """Returns pairs of version and date, newest first."""
    return _RELEASE.findall(_text("CHANGELOG.md"))


def test_changelog_and_citation_agree_with_the_package():
    version, date = _releases()[0]
    assert version == keras_advdef.__version__
    citation = _text("CITATION.cff")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [version]
    dates = re.findall(r'^date-released: "(.*)"$', citation, re.MULTILINE)
    assert dates == [date]


def test_version_is_written_once_as_source():
    assert "version = attr: keras_advdef.__version__" in _text("setup.cfg")
    sources = [*_ROOT.glob("keras_advdef*/**/*.py")]
    sources += [_ROOT / "setup.cfg", _ROOT / "pyproject.toml"]
    quoted = f'"{keras_advdef.__version__}"'
    found = [path for path in sources if quoted in path.read_text(encoding="utf-8")]
    assert found == [_ROOT / "keras_advdef" / "__init__.py"]


def test_releases_are_dated_and_newest_first():
    releases = _releases()
    dates = [datetime.date.fromisoformat(date) for _, date in releases]
    versions = [tuple(map(int, version.split("."))) for version, _ in releases]
    assert versions[-1] == (0, 1, 0)
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_changelog_has_the_usual_sections():
    text = _text("CHANGELOG.md")
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= _SECTIONS
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert [each for each in headings if each != "[Unreleased]"] == [
        f"[{version}] - {date}" for version, date in _releases()
    ]

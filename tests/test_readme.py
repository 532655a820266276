"""The blocks of README and docs run, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_advdef

_ROOT = Path(__file__).parent.parent
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_CHANGELOG = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
# The recipes of this page define public classes, which their own test runs.
_RUN_ELSEWHERE = {"extend.md"}
_PAGES = {
    path.relative_to(_ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [
        *(_ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
        *sorted((_ROOT / "docs").glob("*.md")),
    ]
    if path.is_file()
}
_LINKS = [
    (name, target)
    for name, text in _PAGES.items()
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text)
]


def _blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


_WITH_BLOCKS = [
    name
    for name, text in _PAGES.items()
    if _blocks(text) and Path(name).name not in _RUN_ELSEWHERE
]


def _run(name, namespace):
    for block in _blocks(_PAGES[name]):
        exec(compile(block, name, "exec"), namespace)


@pytest.fixture
def namespace():
    """A few small images and labels for the README's blocks."""
    generator = np.random.default_rng(0)
    labels = np.arange(24) % 10
    images = generator.uniform(size=(24, 28, 28, 1)).astype(np.float32)
    return {"x": images, "y": labels, "xv": images[:10], "yv": labels[:10]}


@pytest.fixture
def continued(namespace):
    """The variables that the README's first block hands on to the pages of docs."""
    classifier = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    tools = {"keras": keras, "advdef": keras_advdef, "np": np}
    return {**namespace, **tools, "classifier": classifier}


def test_pages_with_blocks_are_found():
    assert {"README.md", "docs/defences.md"} <= set(_WITH_BLOCKS)


def test_readme_is_short():
    assert len(_README.splitlines()) < 250


def test_blocks_of_readme_run_in_order(namespace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run("README.md", namespace)
    assert (tmp_path / "model.keras").is_file()
    assert (tmp_path / "served" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", [name for name in _WITH_BLOCKS if name != "README.md"])
def test_blocks_of_page_run_in_order(name, continued, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run(name, continued)


def test_commands_stand_as_promised():
    assert 'python -m pip install -e ".[all]" && keras-advdef demo\n' in _README
    tests = 'python -m pip install -e ".[all,test]" && python -m pytest\n'
    assert tests in _README


def _shell_lines(text):
    """Returns the calls of our command in a page's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = " && ".join("\n".join(blocks).splitlines()).split(" && ")
    return [line for line in lines if line.startswith("keras-advdef ")]


@pytest.mark.parametrize(
    "line", [line for text in _PAGES.values() for line in _shell_lines(text)]
)
def test_flags_of_shell_blocks_exist(line):
    pytest.importorskip("typer", reason="the command line needs the extra `all`")
    from typer.main import get_command

    from keras_advdef_command.app import app

    _, name, *arguments = shlex.split(line)
    command = get_command(app).commands[name]
    # Only parses the arguments.
    assert command.make_context(name, arguments).params


_FOLDERS = "|".join(keras_advdef.__all__)
_NAMED = sorted(
    {
        (page, found[1])
        for page, text in {**_PAGES, "CHANGELOG.md": _CHANGELOG}.items()
        for found in re.finditer(
            rf"(?:(?<=`)|(?<=advdef\.))((?:{_FOLDERS})\.[A-Za-z][\w.]*)", text
        )
        # The classes of its recipes exist only once somebody follows them.
        if Path(page).name not in _RUN_ELSEWHERE
    }
)


@pytest.mark.parametrize(("page", "name"), _NAMED)
def test_names_in_pages_exist(page, name):
    found = keras_advdef
    for part in name.split("."):
        found = getattr(found, part)


def test_readme_names_every_folder():
    table = _README.partition("## What is inside")[2].partition("\n## ")[0]
    named = re.findall(
        r"`(\w+)`", "\n".join(re.findall(r"^\| `.*", table, re.MULTILINE))
    )
    assert set(named) >= set(keras_advdef.__all__)


def _anchors(text):
    """Returns the names under which GitHub links to the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize(("name", "target"), _LINKS)
def test_links_lead_somewhere(name, target):
    file, _, anchor = target.partition("#")
    path = (_ROOT / name).parent / file if file else _ROOT / name
    assert path.exists()
    if anchor:
        assert anchor in _anchors(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [name for name in _PAGES if name.startswith("docs/")])
def test_readme_leads_to_every_page(name):
    assert f"]({name})" in _README

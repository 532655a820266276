"""Files that are not what they claim: one sentence, code 2, nothing written."""

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_advdef.cli.app import app
from keras_advdef.cli.datasets import load_test_images
from keras_advdef.core.errors import is_rejection
from keras_advdef.evaluation.subject import load_model
from tests.cli import hostile_files

# Libraries warn of some of these files before they fail on them.
pytestmark = pytest.mark.filterwarnings("ignore")

_FLAGS = ("--epsilon", "0.05", "--budget", "quick", "--batch-size", "4")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    hostile_files.write_sound(folder)
    return folder


@pytest.fixture
def evaluate(sound, tmp_path):
    def run(*flags, model=sound / "net.keras", data=sound / "data.npz"):
        output = tmp_path / "out"
        arguments = [str(model), "--data", str(data), "--output", str(output)]
        return CliRunner().invoke(app, ["evaluate", *arguments, *_FLAGS, *flags])

    return run


def _assert_refused(result, tmp_path):
    assert result.exit_code == 2, (result.output, result.exception)
    assert "expects" in result.stderr
    assert "Received: " in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Unexpected" not in result.stderr
    assert result.stderr.strip().endswith(".")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", hostile_files.DATA, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["evaluate", "demo"])
def test_data(sound, evaluate, tmp_path, make, command):
    data = make(sound, tmp_path / "hostile")
    if command == "evaluate":
        result = evaluate(data=data)
    else:
        flags = ["--data", str(data), "--output", str(tmp_path / "out")]
        result = CliRunner().invoke(app, ["demo", *flags])
    _assert_refused(result, tmp_path)


@pytest.mark.parametrize("make", hostile_files.MODELS, ids=lambda make: make.__name__)
def test_model(sound, evaluate, tmp_path, make):
    _assert_refused(evaluate(model=make(sound, tmp_path / "hostile.keras")), tmp_path)


@pytest.mark.parametrize("flag", ["--reference", "--surrogate"])
@pytest.mark.parametrize(
    "make",
    [
        hostile_files.keras_of_other_images,
        hostile_files.keras_of_infinite_weights,
        hostile_files.keras_with_flipped_bytes,
        hostile_files.served_cut_short,
    ],
    ids=lambda make: make.__name__,
)
def test_companion(sound, evaluate, tmp_path, flag, make):
    _assert_refused(evaluate(flag, str(make(sound, tmp_path / "h.keras"))), tmp_path)


def _is_refused(read, path):
    try:
        read(path)
    except (ValueError, TypeError) as error:
        if not is_rejection(error):
            raise
        return True
    return False


@pytest.mark.parametrize(
    ("name", "read", "times"),
    [
        ("data.npz", load_test_images, 200),
        ("images/a/0.png", load_test_images, 100),
        ("net.keras", load_model, 10),
        ("served/saved_model.pb", load_model, 10),
        ("served/variables/variables.index", load_model, 5),
    ],
)
def test_bytes_at_random(sound, tmp_path, name, read, times):
    generator = np.random.default_rng(0)
    whole = (sound / name).read_bytes()
    top = tmp_path / name.split("/", maxsplit=1)[0]
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    refused = 0
    for _ in range(times):
        content = bytearray(whole)
        for place in generator.integers(len(whole), size=3):
            content[place] = generator.integers(256)
        (tmp_path / name).write_bytes(content)
        refused += _is_refused(read, str(top))
    # Some bytes say nothing, such as dates.
    assert refused > times / 4

"""Files that are not what they claim: one sentence, code 2, nothing written."""

import pytest
from typer.testing import CliRunner

from keras_advdef_command.app import app
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

"""The command `evaluate`, including a run that is killed and resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from keras_advdef.evaluation import RobustnessReport
from keras_advdef_command.app import app
from tests.support.report_values import judgements, several_norms, small_report
from tests.support.two_classes import two_classes

FLAGS = ("--epsilon", "0.45", "--budget", "quick", "--batch-size", "4", "--corruptions")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with images and a tiny classifier for them, with one sigmoid unit."""
    folder = tmp_path_factory.mktemp("sound")
    head = keras.layers.Dense(1, activation="sigmoid")
    net = keras.Sequential([keras.Input((6, 5)), keras.layers.Flatten(), head])
    # Bright images are class 1.
    head.set_weights([np.full((30, 1), 0.2, "float32"), np.array([-3.0], "float32")])
    net.save(folder / "net.keras")
    np.savez(folder / "data.npz", **two_classes())
    return folder


def _arguments(sound, output):
    data = ["--data", str(sound / "data.npz"), "--output", str(output)]
    return ["evaluate", str(sound / "net.keras"), *data, *FLAGS]


@pytest.fixture(scope="module")
def whole(sound, tmp_path_factory):
    """The result and the folder of a finished evaluation, which stays as it is."""
    output = tmp_path_factory.mktemp("whole") / "out"
    return CliRunner().invoke(app, _arguments(sound, output)), output


@pytest.fixture
def finished(whole, tmp_path):
    """A folder of its own for the finished evaluation."""
    return shutil.copytree(whole[1], tmp_path / "finished")


@pytest.fixture
def evaluate(sound, tmp_path):
    def run(*flags, output=tmp_path / "out"):
        # What is typed later counts.
        return CliRunner().invoke(app, [*_arguments(sound, output), *flags])

    return run


def test_writes_a_report(whole, sound):
    result, output = whole
    assert result.exit_code == 0, result.stderr
    assert "under all attacks" in result.stdout
    assert "with common corruptions, on average" in result.stdout
    assert (output / "corruptions.png").stat().st_size > 1000
    taken = f"Data: all 12 images of x_test in {sound / 'data.npz'}."
    assert taken in result.stdout.splitlines()
    report = json.loads((output / "report.json").read_text())
    assert report["headline"] in result.stdout
    assert report["epsilon"] == 0.45
    assert report["images"] == {"evaluated": 12, "given": 12}
    for suffix in ("html", "md", "png"):
        assert (output / f"report.{suffix}").stat().st_size > 1000


def test_folders_name_the_classes(tmp_path, sound, arrays):
    for image, label in zip(arrays["x_test"], arrays["y_test"], strict=True):
        folder = tmp_path / "photos" / ("bright" if label else "<dark>")
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        Image.fromarray(image).save(folder / f"{number}.png")
    typed = ["evaluate", str(sound / "net.keras"), "--data", str(tmp_path / "photos")]
    output = tmp_path / "out"
    result = CliRunner().invoke(app, [*typed, "--output", str(output), *FLAGS])
    assert result.exit_code == 0, result.stderr
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert report["class_names"] == ["<dark>", "bright"]
    assert report["run"]["data"]["name"] == str(tmp_path / "photos")
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<td>bright</td>" in page
    assert "<td>&lt;dark&gt;</td>" in page


def test_model_card(evaluate, finished):
    result = evaluate("--model-card", output=finished)
    assert result.exit_code == 0
    card = (finished / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: keras\n")
    assert '- name: "net.keras"' in card


@pytest.fixture
def made_up(monkeypatch):
    """The arguments of a made-up evaluation of a random model under two norms."""
    data, told = {**small_report(), **several_norms()}, {}
    data["adaptive"]["judgements"] = judgements()

    def evaluated(**arguments):
        told.update(arguments)
        return RobustnessReport(data)

    monkeypatch.setattr("keras_advdef.cli.evaluate.evaluate_robustness", evaluated)
    return told


def test_several_norms_and_draws(evaluate, made_up):
    flags = ("--norms", "linf,l2", "--epsilon", "0.1,0.5", "--judgements", "10")
    minimum = ("--minimum-robust-accuracy", "0.2")
    result = evaluate(*flags, *minimum)
    assert made_up["norms"] == ["linf", "l2"]
    assert made_up["epsilon"] == {"linf": 0.1, "l2": 0.5}
    assert made_up["judgements"] == 10
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "right in all of 10 draws 20.0 % [2.0, 56.0]" in rows
    assert "right by majority vote 20.0 % [2.0, 56.0]" in rows
    assert "under all attacks, l2, epsilon 0.5 10.0 % [0.0, 45.0]" in rows
    assert "under any of the norms 0.0 % [0.0, 31.0]" in rows
    assert "Accuracy is left | in linf." in rows
    # Of all norms: 30 % are left under the first.
    assert result.exit_code == 1
    assert "Accuracy under all attacks is 0, below the minimum of 0.2." in rows


def test_reprints_a_report(evaluate, finished):
    path = finished / "report.json"
    before = path.stat().st_mtime_ns
    again = evaluate(output=finished)
    assert again.exit_code == 0
    assert "This evaluation has already finished" in again.stdout
    assert json.loads(path.read_text())["headline"] in again.stdout
    assert path.stat().st_mtime_ns == before
    other = evaluate("--seed", "1", output=finished)
    assert other.exit_code == 2
    assert "has another seed" in other.stderr


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("progress/identity.json", "delete progress/ to start over"),
        ("report.json", "damaged or no evaluation wrote it"),
        ("progress", "File exists"),
    ],
)
def test_damaged_folder_is_a_sentence(place, text, evaluate, tmp_path):
    path = tmp_path / "out" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x89PNG")
    result = evaluate()
    assert result.exit_code == 2
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert path.read_bytes() == b"\x89PNG"


def test_minimum(evaluate, finished):
    flag = "--minimum-robust-accuracy"
    assert evaluate(flag, "0", output=finished).exit_code == 0
    report = json.loads((finished / "report.json").read_text())
    assert report["adaptive"]["accuracy"] < 1.0
    below = evaluate(flag, "1", output=finished)
    assert below.exit_code == 1
    assert "below the minimum of 1." in below.stdout


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--epsilon", "8"), "Did you mean 8/255 = 0.0314"),
        (("--epsilon", "0.0005"), "--allow-small-epsilon"),
        (("--epsilon", "8/255", "--value-range", "0,255"), "0.1 % of --value-range"),
        (("--norm", "l3"), "expects `--norm` to be one of linf, l2, l1"),
        (("--budget", "huge"), "one of quick, standard, full"),
        (("--value-range", "255"), "two numbers low,high"),
        (("--minimum-robust-accuracy", "40"), "a share in [0, 1]"),
        (("--reference", "nothing.keras"), "check the path"),
    ],
)
def test_bad_flags(flags, text, evaluate, tmp_path):
    result = evaluate(*flags)
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def refused(tmp_path, sound):
    """Evaluates other files; returns the sentence that refuses them."""

    def run(*, model=sound / "net.keras", data=sound / "data.npz"):
        typed = ["evaluate", str(model), "--data", str(data), "--output"]
        typed += [str(tmp_path / "out"), *FLAGS]
        result = CliRunner().invoke(app, typed)
        assert result.exit_code == 2
        return result.stderr

    return run


def test_bad_model_and_data(refused, tmp_path, sound, arrays):
    missing = refused(model=tmp_path / "nothing.keras")
    assert "There is no such file or folder" in missing
    assert "Keras says" in refused(model=sound / "data.npz")
    large = tmp_path / "large.npz"
    images = {key: np.repeat(arrays[key], 2, axis=1) for key in ("x_train", "x_test")}
    np.savez(large, **{**arrays, **images})
    assert "the shape that the model takes, (6, 5, 1)" in refused(data=large)


# A process that is killed as soon as three parts are written.
_KILLED = """
import os, signal
import keras_advdef_command
parts, replace = [], os.replace

def count(source, target):
    replace(source, target)
    parts.append("check-" in str(target))
    if sum(parts) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = count
keras_advdef_command.main()
"""


@pytest.mark.slow
def test_killed_and_run_again(whole, sound, evaluate, tmp_path):
    output, temporary = tmp_path / "killed", tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *_arguments(sound, output)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    # None of the lines that TensorFlow prints when it starts.
    assert killed.stderr == ""
    assert "Data: all 12 images" in killed.stdout
    assert list(temporary.iterdir()) == []
    assert len(list(output.glob("progress/check-*.part"))) == 3
    assert not (output / "report.json").exists()
    assert evaluate(output=output).exit_code == 0
    reports = [
        json.loads((folder / "report.json").read_text())
        for folder in (whole[1], output)
    ]
    for report in reports:
        report.pop("run")
    assert reports[0] == reports[1]
    assert not (output / "progress").exists()

import shlex
from pathlib import Path

import pytest

from keras_advdef_command.demo_flags import DemoFlags
from keras_advdef_command.refusal import RefusedArgument


class TestDemoFlags:
    @pytest.mark.parametrize(
        ("text", "number"),
        [("8/255", 8 / 255), ("0.0314", 0.0314), ("1e-2", 0.01), ("1", 1.0)],
    )
    def test_reads_epsilon(self, text, number):
        assert DemoFlags(epsilon=text).epsilon_number() == number

    @pytest.mark.parametrize(
        "text", ["0", "-0.1", "8", "nan", "inf", "1/0", "1e999", "big", "", "0.1/2/3"]
    )
    def test_rejects_epsilon(self, text):
        with pytest.raises(ValueError, match=f"8/255. Received: --epsilon='{text}'"):
            DemoFlags(epsilon=text).epsilon_number()

    def test_epsilon_may_be_left_to_the_data_set(self):
        assert DemoFlags().epsilon_number() is None

    def test_command_repeats_the_run(self):
        flags = DemoFlags(data="my digits.npz", output=Path("out"), seed=3)
        words = shlex.split(flags.command(epsilon=8 / 255, epochs=5))
        assert words[:2] == ["keras-advdef", "demo"]
        typed = dict(zip(words[2::2], words[3::2], strict=True))
        assert DemoFlags(epsilon=typed.pop("--epsilon")).epsilon_number() == 8 / 255
        rest = {"--data": "my digits.npz", "--output": "out"}
        assert typed == {**rest, "--epochs": "5", "--seed": "3"}

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({}, None),
            ({"epsilon": "8"}, "--epsilon"),
            ({"data": "mnits"}, "--data"),
            ({"output": Path("file")}, "'file' is a file"),
            (
                {"output": Path("foreign")},
                "'served' in it is not a SavedModel; move",
            ),
            ({"output": Path("folders")}, "a folder named 'report.json'; move it away"),
        ],
    )
    def test_check(self, tmp_path, monkeypatch, changes, text):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        (tmp_path / "foreign" / "served").mkdir(parents=True)
        (tmp_path / "folders" / "report.json").mkdir(parents=True)
        flags = DemoFlags(**changes)
        if text is None:
            flags.check()
        else:
            with pytest.raises(RefusedArgument, match=text):
                flags.check()

from pathlib import Path

import pytest

from keras_advdef_command.demo_flags import DemoFlags
from keras_advdef_command.refusal import RefusedArgument


class TestDemoFlags:
    @pytest.mark.parametrize(
        ("text", "number"),
        [("8/255", 8 / 255), ("0.0314", 0.0314), ("1e-2", 0.01), ("0.5", 0.5)],
    )
    def test_reads_epsilon(self, text, number):
        assert DemoFlags(epsilon=text).epsilon_number() == number

    @pytest.mark.parametrize(
        "text",
        ["0", "-0.1", "8", "0.51", "nan", "inf", "1/0", "1e999", "big", "", "0.1/2/3"],
    )
    def test_rejects_epsilon(self, text):
        with pytest.raises(ValueError, match=f"8/255. Received: --epsilon='{text}'"):
            DemoFlags(epsilon=text).epsilon_number()

    def test_epsilon_may_be_left_to_the_data_set(self):
        assert DemoFlags().epsilon_number() is None

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({}, None),
            ({"epsilon": "8"}, "--epsilon"),
            ({"data": "mnits"}, "--data"),
            ({"output": Path("file")}, "'file' is a file"),
        ],
    )
    def test_check(self, tmp_path, monkeypatch, changes, text):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "file").touch()
        flags = DemoFlags(**changes)
        if text is None:
            flags.check()
        else:
            with pytest.raises(RefusedArgument, match=text):
                flags.check()

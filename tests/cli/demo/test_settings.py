import shlex
from pathlib import Path

import pytest

from keras_advdef.cli.demo.settings import DemoSettings


def _parse(**changes):
    flags = {"data": "digits", "output": Path("out"), "epsilon": None}
    return DemoSettings.parse(**{**flags, "epochs": None, "seed": 0, **changes})


class TestDemoSettings:
    @pytest.mark.parametrize(
        ("text", "number"),
        [("8/255", 8 / 255), ("0.0314", 0.0314), ("1e-2", 0.01), ("1", 1.0)],
    )
    def test_reads_epsilon(self, text, number):
        assert _parse(epsilon=text).epsilon == number

    @pytest.mark.parametrize(
        "text", ["0", "-0.1", "8", "nan", "inf", "1/0", "1e999", "big", "", "0.1/2/3"]
    )
    def test_rejects_epsilon(self, text):
        with pytest.raises(ValueError, match=f"8/255. Received: --epsilon='{text}'"):
            _parse(epsilon=text)

    def test_command_repeats_the_run(self):
        settings = _parse(data="my digits.npz", seed=3)
        command = settings.command(epsilon=8 / 255, epochs=5)
        words = shlex.split(command)
        assert words[:4] == ["keras-advdef", "demo", "--data", "my digits.npz"]
        flags = dict(zip(words[2::2], words[3::2], strict=True))
        assert _parse(epsilon=flags["--epsilon"]).epsilon == 8 / 255
        assert flags["--epochs"] == "5"
        assert flags["--seed"] == "3"
        assert flags["--output"] == "out"

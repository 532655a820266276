import inspect

import pytest

from keras_advdef.recipes import harden
from keras_advdef.recipes._harden.request import NORMS, PRECISIONS, RECIPES
from keras_advdef_command import harden_flags
from keras_advdef_command.harden_flags import HardenFlags
from keras_advdef_command.refusal import RefusedArgument


def _flags(**changes):
    sound = {"model": "m", "data": "d", "epsilon": "8/255", "output": "out"}
    return HardenFlags(**{**sound, **changes})


@pytest.fixture
def check(tmp_path):
    """Checks flags whose paths are sound, with some changes."""
    (tmp_path / "net.keras").touch()
    sound = {"model": str(tmp_path / "net.keras"), "data": "digits"}
    sound["output"] = tmp_path / "out"
    return lambda **changes: _flags(**{**sound, **changes}).check()


class TestArguments:
    def test_defaults_are_those_of_the_function(self):
        parameters = inspect.signature(harden).parameters
        arguments = _flags().arguments()
        assert arguments.pop("epsilon") == 8 / 255
        assert arguments.pop("output") == "out"
        assert arguments == {name: parameters[name].default for name in arguments}

    def test_choices_are_those_of_the_function(self):
        choices = harden_flags._CHOICES
        assert choices["recipe"] == RECIPES
        assert choices["norm"] == NORMS
        assert choices["precision"] == PRECISIONS

    @pytest.mark.parametrize(("typed", "value"), [("yes", True), ("no", False)])
    def test_augment(self, typed, value):
        assert _flags(augment=typed).arguments()["augment"] is value

    def test_minutes(self):
        assert _flags(minutes="90").arguments()["minutes"] == 90.0


class TestCheck:
    def test_accepts(self, check):
        check(minutes="60", recipe="trades", value_range="0,255", epsilon="8")

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"epsilon": "0"}, "`--epsilon` to be a number above 0"),
            ({"minutes": "soon"}, "`--minutes` to be a number above 0, such as 60"),
            ({"recipe": "slow"}, "`--recipe` to be one of fast, pgd"),
            ({"augment": "maybe"}, "`--augment` to be one of auto, yes, no"),
            ({"value_range": "255"}, "two numbers low,high"),
            ({"data": "nowhere"}, "`--data` to be one of digits"),
            ({"model": "nowhere.keras"}, "`MODEL` to be a .keras or .h5 file"),
        ],
    )
    def test_refuses(self, check, changes, sentence):
        with pytest.raises(RefusedArgument, match=sentence):
            check(**changes)

    def test_refuses_a_saved_model(self, check, tmp_path):
        (tmp_path / "served").mkdir()
        (tmp_path / "served" / "saved_model.pb").touch()
        with pytest.raises(RefusedArgument, match="A SavedModel cannot be trained"):
            check(model=str(tmp_path / "served"))

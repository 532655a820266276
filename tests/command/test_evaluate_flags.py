import inspect

import pytest

from keras_advdef.core.errors import is_rejection
from keras_advdef.core.norms import NORMS
from keras_advdef.core.precision import PRECISIONS
from keras_advdef.core.value_range import (
    ValueRange,
    checked_epsilon,
    small_epsilon_error,
)
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.evaluation._request.budget import BUDGETS
from keras_advdef_command.evaluate_flags import EvaluateFlags
from keras_advdef_command.refusal import RefusedArgument


def _flags(**changes):
    return EvaluateFlags(**{"model": "m", "data": "d", "epsilon": "8/255", **changes})


@pytest.fixture
def check(tmp_path):
    """Checks flags whose paths are sound, with some changes."""
    (tmp_path / "net.keras").touch()
    sound = {"model": str(tmp_path / "net.keras"), "data": "digits"}
    sound["output"] = tmp_path / "out"
    return lambda **changes: _flags(**{**sound, **changes}).check()


class TestArguments:
    def test_defaults_are_those_of_the_function(self):
        parameters = inspect.signature(evaluate_robustness).parameters
        arguments = _flags().arguments()
        given = ("model", "epsilon", "output")
        assert (arguments["model"], arguments["epsilon"]) == ("m", 8 / 255)
        assert {
            name: value for name, value in arguments.items() if name not in given
        } == {name: parameters[name].default for name in arguments if name not in given}

    @pytest.mark.parametrize(
        ("text", "pair"), [("0,255", (0.0, 255.0)), ("-1, 1", (-1.0, 1.0))]
    )
    def test_value_range(self, text, pair):
        assert _flags(value_range=text).arguments()["value_range"] == pair

    @pytest.mark.parametrize("text", ["255", "0,", "0;255", "0,1,2", "1,0", "1,1"])
    def test_value_range_refuses(self, text):
        with pytest.raises(RefusedArgument, match="two numbers low,high"):
            _flags(value_range=text).arguments()

    @pytest.mark.parametrize("text", ["eight", "0", "-0.1"])
    def test_epsilon_refuses(self, text):
        with pytest.raises(RefusedArgument, match="--epsilon` to be a number above 0"):
            _flags(epsilon=text).arguments()

    def test_norms(self):
        arguments = _flags(norms="l2, linf", epsilon="0.5,8/255").arguments()
        assert arguments["norms"] == ["l2", "linf"]
        assert arguments["epsilon"] == {"l2": 0.5, "linf": 8 / 255}

    @pytest.mark.parametrize(
        ("flags", "text"),
        [
            ({"norms": "linf,l2"}, "one number for each of the norms linf, l2"),
            ({"norms": "linf", "epsilon": "0.1,0.2"}, "one number for each"),
            ({"epsilon": "0.1,0.2"}, "one number for each of the norms linf"),
            ({"norms": "linf,linf", "epsilon": "0.1,0.2"}, "norms that differ"),
            ({"norms": "linf,l2", "norm": "l1", "epsilon": "0.1,1"}, "left out"),
        ],
    )
    def test_norms_refuse(self, flags, text):
        with pytest.raises(RefusedArgument, match=text):
            _flags(**flags).arguments()

    def test_minimum(self):
        assert _flags().minimum() is None
        assert _flags(minimum_robust_accuracy="0.4").minimum() == 0.4

    @pytest.mark.parametrize("text", ["1.2", "-0.1", "40 %"])
    def test_minimum_refuses(self, text):
        with pytest.raises(RefusedArgument, match="--minimum-robust-accuracy"):
            _flags(minimum_robust_accuracy=text).minimum()


class TestCheck:
    @pytest.mark.parametrize(
        ("name", "choices"),
        [("norm", NORMS), ("budget", tuple(BUDGETS)), ("precision", PRECISIONS)],
    )
    def test_choices_are_those_of_the_function(self, check, name, choices):
        for choice in choices:
            check(**{name: choice})
        with pytest.raises(RefusedArgument, match=f"one of {', '.join(choices)}[.] R"):
            check(**{name: choices[0].upper()})

    @pytest.mark.parametrize("value_range", ["0,1", "0,255", "-1,1"])
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_epsilon_is_bounded_as_in_the_function(self, check, value_range, norm):
        pixels = ValueRange(*map(float, value_range.split(",")))
        for share in (0.0009, 0.0011, 0.9, 1.0, 1.1):
            number = share * pixels.span
            flags = {"epsilon": str(number), "norm": norm, "value_range": value_range}
            assert _is_refused(check, **flags) == (
                _is_refused(checked_epsilon, "f", number, pixels, norm=norm)
                or small_epsilon_error("f", number, pixels) is not None
            )

    def test_every_norm_is_checked(self, check):
        check(norms="linf,l2", epsilon="8/255,3")
        for flags in (
            {"norms": "linf,l3", "epsilon": "0.1,0.1"},
            {"norms": "l2,linf", "epsilon": "3,3"},
            {"norms": "linf,l2", "epsilon": "0.1,0.0005"},
        ):
            with pytest.raises(RefusedArgument):
                check(**flags)

    def test_advice_on_units(self, check):
        with pytest.raises(RefusedArgument, match=r"Did you mean 8/255 = 0\.0314\?"):
            check(epsilon="8")
        with pytest.raises(RefusedArgument, match="Did you mean 8, in the units of"):
            check(epsilon="8/255", value_range="0,255")
        with pytest.raises(RefusedArgument, match=r"0\.001\. .*add --allow-sm"):
            check(epsilon="0.0005")
        check(epsilon="0.0005", allow_small_epsilon=True)

    @pytest.mark.parametrize(
        ("name", "flag"),
        [
            ("model", "MODEL"),
            ("reference", "--reference"),
            ("surrogate", "--surrogate"),
            ("data", "--data"),
        ],
    )
    def test_paths(self, check, tmp_path, name, flag):
        text = f"`{flag}` to be .*[Cc]heck the path"
        with pytest.raises(RefusedArgument, match=text):
            check(**{name: str(tmp_path / "nowhere")})

    def test_output(self, check, tmp_path):
        with pytest.raises(RefusedArgument, match="`--output` to be a folder"):
            check(output=tmp_path / "net.keras")

    def test_minimum(self, check):
        with pytest.raises(RefusedArgument, match="a share in"):
            check(minimum_robust_accuracy="2")


def _is_refused(check, *arguments, **named):
    try:
        check(*arguments, **named)
    except ValueError as error:
        return is_rejection(error)
    return False

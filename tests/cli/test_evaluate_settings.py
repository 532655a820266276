import pytest

from keras_advdef.cli._evaluate_settings import (
    parse_epsilon,
    parse_minimum,
    parse_value_range,
)


def test_epsilon():
    assert parse_epsilon("8/255") == 8 / 255
    with pytest.raises(ValueError, match="--epsilon"):
        parse_epsilon("eight")


@pytest.mark.parametrize(
    ("text", "pair"), [("0,255", (0.0, 255.0)), ("-1, 1", (-1.0, 1.0))]
)
def test_value_range(text, pair):
    assert parse_value_range(text) == pair


@pytest.mark.parametrize("text", ["255", "0,", "0;255", "0,1,2"])
def test_value_range_refuses(text):
    with pytest.raises(ValueError, match="two numbers low,high"):
        parse_value_range(text)


def test_minimum():
    assert parse_minimum(None) is None
    assert parse_minimum("0.4") == 0.4
    for text in ("1.2", "-0.1", "40 %"):
        with pytest.raises(ValueError, match="--minimum-robust-accuracy"):
            parse_minimum(text)

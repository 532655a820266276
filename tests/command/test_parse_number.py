import pytest

from keras_advdef_command._parse_number import parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8/255", 8 / 255),
        ("0.3", 0.3),
        ("-1", -1.0),
        ("1e-2", 0.01),
        ("0e-999999999", 0.0),
        ("0/255", 0.0),
        ("5e-324", 5e-324),
    ],
)
def test_reads_decimals_and_fractions(text, number):
    assert parse_number("--epsilon", text, rule="a number") == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nan",
        "inf",
        "1/inf",
        "1e300/1e-300",
        "8/0",
        "8/255/3",
        "/3",
        "ten",
        # As a fraction it would take a billion digits, and minutes.
        "1e999999999",
        "1/1e999999999",
        "1e-999999999",
        "8/1e-400",
        "1e-300/1e300",
        "10**10**10",
        "²",
        "9" * 10**6,
        "1e" + "9" * 10**6,
    ],
    ids=range(18),
)
def test_refuses_the_rest(text):
    with pytest.raises(ValueError, match=r"`keras-advdef` expects `--epsilon` to be a"):
        parse_number("--epsilon", text, rule="a number")

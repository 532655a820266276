import pytest

from keras_advdef.core.errors import invalid, is_rejection
from keras_advdef_command.refusal import refusal


@pytest.mark.parametrize("typed", ["l3", "it's", "a\x1b[2J\nb", ""])
def test_is_worded_as_the_package_does(typed):
    given = ("--norm", "linf or l2", typed)
    ours = refusal(*given, advice="Choose one.")
    theirs = invalid("keras-advdef", *given, advice="Choose one.")
    assert str(ours) == str(theirs)
    assert is_rejection(ours)


def test_owner():
    error = refusal("NAME", "a name", "x", owner="keras-advdef defences")
    assert str(error).startswith("`keras-advdef defences` expects `NAME` to be a name.")


def test_long_words_are_cut():
    assert len(str(refusal("--data", "a path", 10**5 * "a"))) < 200

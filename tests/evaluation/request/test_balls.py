import pytest

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._request.balls import Ball, parse_balls


def parse(epsilon, norms=None, norm="linf", **changes):
    settings = {"value_range": ValueRange(), "allow_small": False, **changes}
    return parse_balls("f", epsilon, norm=norm, norms=norms, **settings)


def test_one_norm():
    assert parse(0.1) == (Ball("linf", 0.1),)
    assert parse(0.5, norm="l2") == (Ball("l2", 0.5),)


@pytest.mark.parametrize("epsilon", [{"l2": 2, "linf": 0.1}, [0.1, 2], (0.1, 2.0)])
def test_an_epsilon_for_each_norm(epsilon):
    assert parse(epsilon, ["linf", "l2"]) == (Ball("linf", 0.1), Ball("l2", 2.0))


def test_the_first_norm_may_be_named_twice():
    assert parse([2], ["l2"], norm="l2") == (Ball("l2", 2.0),)


@pytest.mark.parametrize(
    ("epsilon", "norms"),
    [
        (0.1, ["linf", "l2"]),
        (0.1, ["linf"]),
        ([0.1], ["linf", "l2"]),
        ({"linf": 0.1}, ["linf", "l2"]),
        ({"linf": 0.1, "l1": 1.0}, ["linf", "l2"]),
        ({"linf": 0.1, "l2": 1.0, "l1": 1.0}, ["linf", "l2"]),
        (None, ["linf", "l2"]),
    ],
)
def test_norms_without_epsilon_are_a_sentence(epsilon, norms):
    rule = f"one number for each of the norms {', '.join(norms)}"
    with pytest.raises(ValueError, match=rf"`f` expects `epsilon` to be {rule}\. "):
        parse(epsilon, norms)


def test_advice_can_be_pasted():
    with pytest.raises(ValueError, match=r'Pass epsilon={"linf": ..., "l2": ...}\.$'):
        parse(0.1, ["linf", "l2"])


@pytest.mark.parametrize(
    ("norms", "rule"),
    [
        ("linf", "a list of norms"),
        ([], "a list of norms"),
        (["linf", "l3"], "one of"),
        (["l2", "l2"], "each named once"),
    ],
)
def test_norms_are_checked(norms, rule):
    with pytest.raises(ValueError, match=f"`norms` to be .*{rule}"):
        parse([0.1, 0.1], norms)


def test_another_norm_beside_norms_is_refused():
    with pytest.raises(ValueError, match=r"`norm` to be left out beside `norms`"):
        parse([0.1, 0.1], ["linf", "l2"], norm="l1")


@pytest.mark.parametrize("epsilon", [[0.1, 0.0005], [3, 3], [0.1, "a"], [0.1, 0]])
def test_each_epsilon_is_checked(epsilon):
    with pytest.raises(ValueError, match="expects `epsilon` to be"):
        parse(epsilon, ["linf", "l2"])


def test_small_ones_may_be_meant():
    assert parse([0.1, 0.0005], ["linf", "l2"], allow_small=True)[1].epsilon == 0.0005


def test_one_norm_takes_one_number():
    with pytest.raises(ValueError, match="expects `epsilon` to be a finite number"):
        parse({"linf": 0.1})

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.errors import (
    checked_choice,
    checked_instance,
    checked_integer,
    checked_number,
    describe,
    invalid,
    wrong_type,
)


class TestDescribe:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0.5, "0.5"),
            ("l3", "'l3'"),
            (None, "None"),
            ((0, 1), "(0, 1)"),
            (np.float32(0.5), "np.float32(0.5)"),
            (np.zeros((2, 3), np.uint8), "array of shape (2, 3), dtype uint8"),
            (tf.zeros((2, 3)), "tensor of shape (2, 3), dtype float32"),
            (keras.Input((3,)), "tensor of shape (None, 3), dtype float32"),
        ],
    )
    def test_value(self, value, text):
        assert describe(value) == text

    def test_variable_is_shown_by_shape(self):
        variable = keras.Variable(np.zeros(4, np.float32))
        assert describe(variable) == "tensor of shape (4,), dtype float32"

    def test_unknown_rank(self):
        seen = []
        traced = tf.function(lambda images: seen.append(describe(images)))
        traced.get_concrete_function(tf.TensorSpec(None, tf.float32))
        assert seen == ["tensor of unknown rank, dtype float32"]

    def test_long_values_are_cut_to_one_line(self):
        text = describe(["line\nbreak" * 10] * 50)
        assert len(text) == 120
        assert text.endswith("...")
        assert "\n" not in text

    @pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=describe)
    def test_numbers_of_thousands_of_digits(self, value):
        assert describe(value) == "int of too many digits"
        assert describe([value]) == "list of too many digits"

    def test_line_breaks_become_spaces(self):
        class Lines:
            def __repr__(self):
                return "first\n    second"

        assert describe(Lines()) == "first second"


class TestMessages:
    @pytest.mark.parametrize(
        ("make", "kind"), [(invalid, ValueError), (wrong_type, TypeError)]
    )
    def test_shape_of_message(self, make, kind):
        error = make("PGD", "steps", "an integer", 0.5, advice="Round it.")
        assert type(error) is kind
        assert str(error) == (
            "`PGD` expects `steps` to be an integer. Received: steps=0.5. Round it."
        )

    @pytest.mark.parametrize("make", [invalid, wrong_type])
    def test_names_of_files_command_no_terminal(self, make):
        name = "a\n\x1b[2J\u202e\udcff"
        text = str(make(f"--data {name}", "x", f"in {name}", name, advice=name))
        assert text.isprintable()
        assert text.count("a\\n\\x1b[2J\\u202e\\udcff") == 4

    @pytest.mark.parametrize("make", [invalid, wrong_type])
    def test_without_advice_it_ends_after_the_value(self, make):
        assert str(make("PGD", "steps", "an integer", 0)).endswith("steps=0.")


class TestCheckedInteger:
    @pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
    def test_becomes_a_python_int(self, value):
        checked = checked_integer("PGD", "steps", value, low=3, high=3)
        assert type(checked) is int
        assert checked == 3

    @pytest.mark.parametrize(
        "value", [0, -1, -(10**5000), 1.0, True, "3", None, math.nan], ids=describe
    )
    def test_rejects(self, value):
        rule = "`PGD` expects `steps` to be an integer of at least 1"
        with pytest.raises(ValueError, match=rule):
            checked_integer("PGD", "steps", value, low=1)

    @pytest.mark.parametrize("value", [0, 9, np.int64(9)])
    def test_rejects_outside_bounds(self, value):
        with pytest.raises(ValueError, match=r"an integer in \[1, 8\]\. Received: b="):
            checked_integer("Depth", "b", value, low=1, high=8)


class TestCheckedNumber:
    @pytest.mark.parametrize("value", [1, 1.0, np.float32(1.0), np.int64(1)])
    def test_becomes_a_python_float(self, value):
        checked = checked_number("PGD", "epsilon", value, low=1.0, high=1.0)
        assert type(checked) is float
        assert checked == 1.0

    def test_any_finite_number_without_bounds(self):
        assert checked_number("PGD", "epsilon", -1e300) == -1e300

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None])
    def test_rejects(self, value):
        rule = r"`PGD` expects `epsilon` to be a finite number\. Received"
        with pytest.raises(ValueError, match=rule):
            checked_number("PGD", "epsilon", value)

    @pytest.mark.parametrize(
        "value",
        [10**400, -(10**400), 10**5000, Fraction(10**400, 3)],
        ids=describe,
    )
    def test_rejects_what_no_float_holds(self, value):
        with pytest.raises(ValueError, match="`epsilon` to be a finite number"):
            checked_number("PGD", "epsilon", value)

    def test_rejects_arrays(self):
        with pytest.raises(ValueError, match=r"epsilon=array of shape \(2,\)"):
            checked_number("PGD", "epsilon", np.zeros(2))

    @pytest.mark.parametrize(
        ("value", "bounds", "rule"),
        [
            (-1, {"low": 0}, "a finite number of at least 0"),
            (0, {"low": 0, "low_open": True}, "a finite number above 0"),
            (2, {"high": 1}, "a finite number and at most 1"),
            (2, {"low": 0, "high": 1}, "of at least 0 and at most 1"),
        ],
    )
    def test_words_the_bounds(self, value, bounds, rule):
        with pytest.raises(ValueError, match=rf"{rule}\. Received: epsilon={value}"):
            checked_number("PGD", "epsilon", value, **bounds)


class TestCheckedChoice:
    def test_returns_the_value(self):
        assert checked_choice("PGD", "norm", "l2", ("l1", "l2")) == "l2"

    @pytest.mark.parametrize("value", ["L2", None, 2, ["l2"], np.zeros(3)])
    def test_rejects(self, value):
        rule = "`PGD` expects `norm` to be one of 'l1', 'l2'. Received: norm="
        with pytest.raises(ValueError, match=rule):
            checked_choice("PGD", "norm", value, ("l1", "l2"))

    @pytest.mark.parametrize("value", [1, 1.0])
    def test_rejects_numbers_as_booleans(self, value):
        with pytest.raises(ValueError, match="one of True, False"):
            checked_choice("PGD", "targeted", value, (True, False))


class TestCheckedInstance:
    def test_returns_the_value(self):
        assert checked_instance("PGD", "name", "a", str) == "a"

    @pytest.mark.parametrize(("kind", "words"), [(str, "a `str`"), (int, "a `int`")])
    def test_rejects(self, kind, words):
        rule = f"`PGD` expects `name` to be {words}. Received: name=None"
        with pytest.raises(TypeError, match=rule):
            checked_instance("PGD", "name", None, kind)

    def test_article_before_a_vowel(self):
        with pytest.raises(TypeError, match="to be an `ArithmeticError`"):
            checked_instance("PGD", "error", 1, ArithmeticError)

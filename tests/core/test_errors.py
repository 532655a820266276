import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.errors import describe, invalid, wrong_type


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

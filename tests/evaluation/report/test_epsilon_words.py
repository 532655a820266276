import pytest

from keras_advdef.evaluation._report.epsilon_words import attacker_words, epsilon_label


@pytest.mark.parametrize(
    ("epsilon", "norm", "value_range", "label"),
    [
        (8 / 255, "linf", (0, 1), "8/255"),
        (8, "linf", (0, 255), "8/255"),
        (16 / 255, "linf", (-1, 1), "8/255"),
        (0.3, "linf", (0, 1), "76.5/255"),
        (0.0005, "linf", (0, 1), "0.128/255"),
        (0.0, "linf", (0, 1), "0"),
        (1.0, "linf", (0, 1), "255/255"),
        (0.5, "l2", (0, 1), "0.5"),
        (12.3456, "l1", (0, 255), "12.35"),
        # What no evaluation writes, but a file may hold.
        (1e15, "linf", (0, 1), "1e+15"),
        (0.1, "linf", (1, 1), "0.1"),
        (0.1, "linf", (1, 0), "0.1"),
    ],
)
def test_label(epsilon, norm, value_range, label):
    assert epsilon_label(epsilon, norm, value_range) == label


def test_words():
    assert attacker_words(8, "linf", (0, 255)) == (
        "who may change every pixel by up to 8 of 255 levels"
    )
    assert attacker_words(0.5, "l2", (0, 1)) == (
        "who may change the image by an l2 norm of up to 0.5, for pixels from 0 to 1"
    )

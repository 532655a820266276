import numpy as np
import pytest

from keras_advdef.evaluation._verdict.held_norms import held_norms

NUMBERS = np.arange(100)


@pytest.mark.parametrize(
    ("broken", "held"),
    [
        ([20, 90], [True, False]),
        ([90, 20], [False, True]),
        ([20, 30, 90], [True, True, False]),
        ([20, 61], [True, False]),
        # Half of 80 % is left.
        ([20, 60], None),
        ([20, 20], None),
        ([100, 100], None),
        # Of 4 %, too little is left to tell.
        ([96, 99], None),
    ],
)
def test_shares(broken, held):
    assert held_norms([count > NUMBERS for count in broken]) == held


def test_on_a_few_images_nothing_is_clear():
    assert held_norms([np.zeros(5), np.ones(5)]) is None
    assert held_norms([np.zeros(10), np.ones(10)]) == [True, False]


def test_images_broken_in_most_draws_are_paired():
    # Less than half of the accuracy is left, but most images survive most draws.
    assert held_norms([np.zeros(100), np.full(100, 0.5)]) is None
    assert held_norms([np.zeros(100), np.full(100, 0.6)]) == [True, False]

import numpy as np

from keras_advdef.core import streams
from keras_advdef.core.random_numbers import fold_in, make_key

_NUMBERS = {name: value for name, value in vars(streams).items() if name[0].isupper()}


def test_values_stay():
    # Another value would give other images for the same seed.
    assert {name: value - 2**30 for name, value in _NUMBERS.items()} == {
        "PENALTIES": 0,
        "PREDICTION": 0,
        "FINITE_CHECK": 10,
        "CONFIRMATION": 3,
        "GRADIENT_START": 1,
        "LAST_POINT": 2,
        "SQUARE_START": 8,
        "CLEAN_SUCCESS": 4,
        "WALK_START": 6,
        "DONORS": 5,
        "DEEP_FOOL_CHECK": 7,
        "JSMA_TARGET": 8,
        "FAB_START": 8,
        "FAB_CHECK": 9,
        "DDN_DIRECTION": 11,
    }


def test_numbers_give_keys_of_their_own():
    key = make_key(0)
    keys = {tuple(np.array(fold_in(key, n))) for n in {*_NUMBERS.values(), *range(50)}}
    assert len(keys) == len(set(_NUMBERS.values())) + 50

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_advdef.layers._selection_network import selection_network


def _select(values, rank):
    values = list(values)
    for low, high in selection_network(len(values), rank):
        values[low], values[high] = sorted((values[low], values[high]))
    return values[rank]


class TestSelectionNetwork:
    @pytest.mark.parametrize("count", range(1, 11))
    def test_selects_from_all_lists_of_zeros_and_ones(self, count):
        # The zero-one principle: it then selects from all lists.
        for rank in {0, count // 2, count - 1}:
            for values in itertools.product((0, 1), repeat=count):
                assert _select(values, rank) == sorted(values)[rank]

    @given(st.lists(st.integers(0, 9), min_size=16, max_size=49))
    @settings(max_examples=30, deadline=None)
    def test_selects_the_median_of_long_lists(self, values):
        middle = len(values) // 2
        assert _select(values, middle) == sorted(values)[middle]

    def test_leaves_out_what_the_rank_does_not_need(self):
        assert len(selection_network(16, 0)) == 15
        # Batcher's networks sort 9 values by 26 and 25 by 138 exchanges at least.
        assert len(selection_network(9, 4)) < 26
        assert len(selection_network(25, 12)) < 138

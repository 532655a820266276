import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_advdef.core.stratified_split import stratified_order, stratified_split


class TestStratifiedOrder:
    @given(
        labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
        share=st.floats(0, 1),
        seed=st.integers(0, 1000),
    )
    def test_beginnings_hold_the_classes_in_their_shares(self, labels, share, seed):
        labels, first = np.array(labels), round(share * len(labels))
        order = stratified_order(labels, seed=seed)
        assert sorted(order) == list(range(len(labels)))
        held = np.bincount(labels[order[:first]], minlength=labels.max() + 1)
        wanted = np.bincount(labels) * first / len(labels)
        assert np.abs(held - wanted).max() <= 2


class TestStratifiedSplit:
    @given(
        labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
        share=st.floats(0, 1),
        seed=st.integers(0, 1000),
    )
    def test_partitions_in_proportion(self, labels, share, seed):
        labels = np.array(labels)
        test_count = round(share * len(labels))
        train, test = stratified_split(labels, test_count=test_count, seed=seed)
        assert len(test) == test_count
        together = np.sort(np.concatenate([train, test]))
        np.testing.assert_array_equal(together, np.arange(len(labels)))
        wanted = np.bincount(labels) * test_count / len(labels)
        held = np.bincount(labels[test], minlength=len(wanted))
        assert np.abs(held - wanted).max() <= 2

    def test_seed_fixes_the_draw(self):
        labels = np.arange(100) % 10
        _, first = stratified_split(labels, test_count=20, seed=1)
        _, again = stratified_split(labels, test_count=20, seed=1)
        _, other = stratified_split(labels, test_count=20, seed=2)
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers import _quilting as nearest_patches
from keras_advdef.layers._quilting import pick_nearest


def _expected(queries, ranks, bank):
    """Searches by brute force, in double precision."""
    queries, rows = queries.astype("float64"), bank.astype("float64")
    far = ((queries[:, None] - rows) ** 2).sum(axis=2)
    order = np.argsort(far, axis=1)
    return bank[order[np.arange(len(queries)), ranks.astype(int)]]


def _drawn(queries, rows, neighbors, features=12):
    generator = np.random.default_rng(rows)
    return (
        generator.uniform(size=(queries, features)).astype("float32"),
        generator.integers(0, neighbors, queries).astype("float32"),
        generator.uniform(size=(rows, features)).astype("float32"),
    )


class TestPickNearest:
    @pytest.mark.parametrize(
        ("queries", "rows", "neighbors"),
        [(7, 1, 1), (7, 10, 10), (40, 100, 10), (3, 257, 4), (30, 2000, 25)],
    )
    def test_equals_brute_force(self, queries, rows, neighbors, in_every_mode):
        arrays = _drawn(queries, rows, neighbors)
        tensors = [tf.constant(array) for array in arrays]
        for found in in_every_mode(lambda *a: pick_nearest(*a, neighbors), *tensors):
            np.testing.assert_array_equal(found, _expected(*arrays))

    @pytest.mark.parametrize("rows", [256, 300, 511, 1000])
    def test_chunks_make_no_difference(self, rows, monkeypatch, in_every_mode):
        monkeypatch.setattr(nearest_patches, "_CHUNK_QUERIES", 16)
        monkeypatch.setattr(nearest_patches, "_CHUNK_ROWS", 128)
        arrays = _drawn(37, rows, 2)
        tensors = [tf.constant(array) for array in arrays]
        for found in in_every_mode(lambda *a: pick_nearest(*a, 2), *tensors):
            np.testing.assert_array_equal(found, _expected(*arrays))

    def test_distances_stay_within_the_promised_memory(self):
        floats = nearest_patches._CHUNK_QUERIES * nearest_patches._CHUNK_ROWS
        assert 4 * floats <= 64 * 2**20

    def test_unknown_sizes(self):
        arrays = _drawn(600, 333, 5)
        traced = tf.function(
            lambda *a: pick_nearest(*a, 5),
            input_signature=[
                tf.TensorSpec([None, 12]),
                tf.TensorSpec([None]),
                tf.TensorSpec([None, 12]),
            ],
            jit_compile=True,
        )
        for rows in (333, 50):
            found = traced(arrays[0], arrays[1], arrays[2][:rows])
            expected = _expected(arrays[0], arrays[1], arrays[2][:rows])
            np.testing.assert_array_equal(found, expected)

    def test_rows_that_differ_by_less_than_products_round(self):
        # Seven nearly equal rows, which only exact differences can order.
        generator = np.random.default_rng(0)
        alike = generator.uniform(size=75) + generator.normal(0, 1e-5, (7, 75))
        alike = alike.astype("float32")
        others = generator.uniform(size=(300, 75)).astype("float32")
        bank = tf.constant(np.concatenate([others, alike]))
        found = pick_nearest(tf.constant(alike), tf.zeros([7]), bank, 1)
        np.testing.assert_array_equal(found, alike)

    def test_bright_patches_one_level_apart(self):
        generator = np.random.default_rng(0)
        base = generator.integers(250, 255, 75) / 255
        bank = (base + np.eye(75) / 255).astype("float32")
        found = pick_nearest(tf.constant(bank), tf.zeros([75]), tf.constant(bank), 1)
        np.testing.assert_array_equal(found, bank)

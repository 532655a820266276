import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.training._batches import (
    FirstBatchCheck,
    only_value,
    unpack_batch,
)


def looked_at(iterator, steps=1):
    """Returns the batches checked and those that a function met."""
    checked, taken, kinds = [], [], []

    def function(batches):
        kinds.append(type(batches))
        for _, batch in zip(range(steps), batches, strict=False):
            taken.append(np.asarray(batch[0]).tolist())

    first = FirstBatchCheck(
        function,
        lambda *parts: checked.append(parts),
        steps=steps,
        strategy=tf.distribute.get_strategy(),
    )
    for _ in range(2):
        first(iterator)
    return checked, taken, kinds


def dataset():
    return tf.data.Dataset.from_tensor_slices((np.arange(6.0), np.arange(6))).batch(2)


class TestFirstBatchCheck:
    @pytest.mark.parametrize("steps", [1, 2])
    def test_checks_the_first_batch_and_loses_none(self, steps):
        generator = ((np.array([k, k + 1.0]), np.array([k])) for k in (0, 2, 4))
        for iterator in (iter(dataset()), generator):
            checked, taken, _ = looked_at(iterator, steps)
            assert len(checked) == 1
            assert checked[0][0].tolist() == [0.0, 1.0]
            assert isinstance(checked[0][1], np.ndarray)
            assert taken == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]][: 2 * steps]

    def test_the_graph_is_the_same_for_the_first_batch(self):
        traces = []

        @tf.function
        def function(iterator):
            traces.append(1)
            return next(iterator)[0]

        strategy = tf.distribute.get_strategy()
        check = FirstBatchCheck(
            function, lambda *parts: None, steps=1, strategy=strategy
        )
        iterator = iter(dataset())
        found = [check(iterator).numpy().tolist() for _ in range(3)]
        assert found == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
        assert len(traces) == 1

    def test_missing_values_are_none(self):
        data = dataset().map(
            lambda x, y: (x, tf.experimental.Optional.from_value(y)),
        )
        checked, taken, _ = looked_at(iter(data))
        assert checked[0][1] is None
        assert taken == [[0.0, 1.0], [2.0, 3.0]]

    def test_an_error_leaves_the_function_uncalled_and_no_data_end_as_ever(self):
        def refuse(images, labels):
            raise ValueError("no")

        called = []
        strategy = tf.distribute.get_strategy()
        check = FirstBatchCheck(called.append, refuse, steps=1, strategy=strategy)
        with pytest.raises(ValueError, match="no"):
            check(iter([1]))
        with pytest.raises(StopIteration):
            check(iter([]))
        assert called == []


def test_only_value():
    images = np.zeros((2, 2))
    for given in (images, [images], {"image": images}, ({"image": images},)):
        assert only_value(given) is images
    pair = [images, images]
    assert only_value(pair) is pair
    assert only_value(None) is None


def test_unpack_batch():
    images, labels = np.zeros((2, 2)), np.zeros(2)
    for data in ((images, labels), ([images], {"y": labels})):
        found = unpack_batch(data)
        assert found[0] is images
        assert found[1] is labels
        assert found[2] is None

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.training._finite_guard import (
    NAMES,
    FiniteStep,
    empty_record,
    new_record,
    zeros_for_nonfinite,
)


class Toy:
    """Two numbers that a step of an optimizer moves, and a third that it counts up."""

    def __init__(self, optimizer="sgd"):
        self.weights = keras.Variable(np.array([1.0, 2.0], "float32"))
        self.statistic = keras.Variable(np.float32(0.0), trainable=False)
        self.optimizer = keras.optimizers.get(optimizer)
        self.optimizer.build([self.weights])
        self.record = new_record()

    def step(self, gradient, *, batch=None, loss=1.0, statistic=None, lazily=True):
        own, optimizer = [self.statistic], self.optimizer
        trained = [self.weights, *optimizer.variables]
        held = (own, trained) if lazily else (own + trained, [])
        step = FiniteStep(self.record, *held, batch or {})
        self.statistic.assign_add(1.0 if statistic is None else statistic)
        step.check_update(tf.constant(loss), [gradient, None], optimizer)
        optimizer.apply_gradients([(gradient, self.weights)])
        step.end()

    def values(self):
        variables = [self.weights, self.statistic, *self.optimizer.variables]
        return [each.numpy() for each in variables]

    def flaws(self):
        bad = ~np.isfinite(self.record.numpy()[2:])
        return [name for name, is_bad in zip(NAMES, bad, strict=True) if is_bad]


GOOD = tf.constant([0.5, 0.25])
NAN, INF = float("nan"), float("inf")


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("lazily", [True, False])
@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"batch": {"images": tf.constant([1.0, NAN])}}, ["images"]),
        ({"batch": {"labels": [None, np.array([INF])]}}, ["labels"]),
        ({"batch": {"sample_weight": tf.constant(NAN, tf.float16)}}, ["sample_weight"]),
        ({"loss": -INF}, ["loss"]),
        ({"statistic": NAN}, ["weights"]),
        ({"gradient": tf.constant([0.0, NAN])}, ["gradients", "weights"]),
        # v of Adam, the square, overflows; weights themselves do not move.
        ({"gradient": tf.constant([1e25, 0.0])}, ["weights"]),
    ],
)
def test_a_bad_step_leaves_all_as_it_was(given, names, lazily):
    toy = Toy("adam")
    step = tf.function(toy.step, autograph=False)
    step(GOOD, lazily=lazily)
    before = toy.values()
    toy.step(**{"gradient": GOOD, "lazily": lazily, **given})
    same(toy.values(), before)
    assert toy.flaws() == names
    # Nothing moves until the record is emptied.
    toy.step(GOOD, lazily=lazily)
    same(toy.values(), before)
    assert toy.record.numpy()[0] == 1.0
    toy.record.assign(empty_record())
    toy.step(GOOD, lazily=lazily)
    other = Toy("adam")
    other.step(GOOD), other.step(GOOD)
    same(toy.values(), other.values())


@pytest.mark.parametrize("jitted", [True, False])
def test_an_update_that_overflows_is_undone_in_a_graph(jitted):
    toy = Toy(keras.optimizers.SGD(0.5))

    @tf.function(jit_compile=jitted, autograph=False)
    def step(gradient):
        toy.step(gradient, lazily=not jitted)

    step(GOOD)
    np.testing.assert_array_equal(toy.weights, [0.75, 1.875])
    toy.optimizer.learning_rate = 1e30
    step(GOOD * 1e10)
    np.testing.assert_array_equal(toy.weights, [0.75, 1.875])
    assert toy.statistic.numpy() == 1.0
    assert toy.flaws() == ["weights"]


def test_where_nobody_watches_a_good_step_follows_a_bad_one():
    toy, weights = Toy(keras.optimizers.SGD(0.5)), [[1.0, 2.0], [0.75, 1.875]]
    for gradient, expected in zip((GOOD * NAN, GOOD), weights, strict=True):
        step = FiniteStep(toy.record, [toy.weights], [], {}, raises=False)
        step.check_update(tf.constant(1.0), [gradient], toy.optimizer)
        toy.optimizer.apply_gradients([(gradient, toy.weights)])
        step.end()
        np.testing.assert_array_equal(toy.weights, expected)


@pytest.mark.parametrize("size", [3e38, -3e38])
def test_large_is_not_infinite(size):
    toy = Toy(keras.optimizers.SGD(0.5))
    images = {"images": tf.constant([size, size])}
    toy.step(GOOD, batch=images)
    toy.step(tf.constant([size, size]) / 4, batch=images)
    assert toy.flaws() == []
    assert toy.statistic.numpy() == 2.0


def test_numbers_that_cannot_be_bad_pass():
    toy = Toy()
    toy.step(GOOD, batch={"images": np.ones((2, 2), "uint8"), "labels": [1, 2]})
    assert toy.record.numpy()[0] == 1.0


@pytest.mark.parametrize(
    ("gradient", "copies"), [(GOOD, 0), (GOOD * NAN, 1), (GOOD * 1e13, 1)]
)
def test_what_an_optimizer_writes_is_copied_only_where_it_may_go_wrong(
    gradient, copies
):
    toy = Toy()
    toy.step(GOOD)
    step = FiniteStep(toy.record, [], [toy.weights], {})
    step.check_update(tf.constant(1.0), [gradient], toy.optimizer)
    assert sum(bool(tf.size(each) > 0) for each in step._trained_values) == copies


def test_rows_of_a_gradient_count():
    toy = Toy()
    rows = tf.IndexedSlices(tf.constant([NAN]), tf.constant([1]), tf.constant([2]))
    toy.step(GOOD)
    before = toy.values()
    toy.step(rows)
    same(toy.values(), before)
    assert toy.flaws() == ["gradients", "weights"]


def test_labels_zeros_for_nonfinite():
    labels = {"a": np.array([1.0, NAN, INF], "float32"), "b": np.array([1, 2])}
    found = zeros_for_nonfinite(labels)
    np.testing.assert_array_equal(found["a"], [1.0, 0.0, 0.0])
    assert found["b"] is labels["b"]
    assert zeros_for_nonfinite(None) is None


class TestLossScale:
    def test_a_skipped_update_is_no_bad_step(self):
        toy = Toy(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), 8.0))
        toy.step(GOOD * INF)
        assert toy.flaws() == []
        assert toy.optimizer.dynamic_scale.numpy() == 4.0
        np.testing.assert_array_equal(toy.weights, [1.0, 2.0])
        toy.step(GOOD * 4.0)
        np.testing.assert_array_equal(toy.weights, [0.5, 1.75])

    def test_gradients_that_no_scale_mends_are_told(self):
        scale = 2.0**-25
        toy = Toy(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), scale))
        toy.step(GOOD * NAN)
        assert toy.flaws() == ["gradients"]

import keras
import numpy as np
import pytest

from keras_advdef.training.finite_guard import FiniteGuard


@pytest.fixture
def variable():
    return keras.Variable(np.array([1.0, 2.0], "float32"))


def started(variable, **options):
    guard = FiniteGuard("Owner", [variable], **options)
    guard.on_epoch_begin(2)
    return guard


def test_bad_logs_bring_the_start_back(variable):
    guard = started(variable)
    variable.assign([5.0, np.nan])
    message = "`Owner` expects `loss` to be finite, but training diverged in epoch 3"
    with pytest.raises(ValueError, match=f"{message}.*Received: loss=nan"):
        guard.on_train_batch_end(0, {"loss": np.float32("nan")})
    np.testing.assert_array_equal(variable, [1.0, 2.0])


def test_bad_weights_bring_the_last_copy_back(variable):
    guard = started(variable, every=2)
    variable.assign([3.0, 4.0])
    guard.on_train_batch_end(0, {"loss": 1.0})
    guard.on_train_batch_end(1, {"loss": 1.0})
    variable.assign([np.inf, 0.0])
    guard.on_train_batch_end(2, {"loss": 1.0})
    with pytest.raises(ValueError, match="`Owner` expects `weights` to be finite"):
        guard.on_train_batch_end(3, {"loss": 1.0})
    np.testing.assert_array_equal(variable, [3.0, 4.0])


def test_epochs_end_with_a_copy(variable):
    guard = started(variable)
    variable.assign([3.0, 4.0])
    guard.on_epoch_end(0)
    with pytest.raises(ValueError, match="diverged"):
        guard.on_train_batch_end(0, {"loss": float("inf")})
    np.testing.assert_array_equal(variable, [3.0, 4.0])


def test_weights_that_are_bad_from_the_start_are_told(variable):
    variable.assign([np.nan, 0.0])
    with pytest.raises(ValueError, match="`Owner` expects `weights`"):
        FiniteGuard("Owner", [variable]).on_epoch_begin(0)


def test_bad_interval(variable):
    with pytest.raises(ValueError, match="`FiniteGuard` expects `every`"):
        FiniteGuard("Owner", [variable], every=0)


def test_goes_back_to_weights_that_another_callback_loaded():
    class Loads(keras.callbacks.Callback):
        """Sets the weights when training begins, as `BackupAndRestore` does."""

        def on_train_begin(self, logs=None):
            self.model.layers[0].kernel.assign([[3.0]])

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    guard = FiniteGuard("Owner", model.variables)
    poisoned = np.full((2, 1), np.nan), np.zeros((2, 1))
    with pytest.raises(ValueError, match=r"`Owner` expects `loss` to be finite"):
        model.fit(*poisoned, callbacks=[guard, Loads()], verbose=0)
    assert model.layers[0].kernel.numpy().item() == 3.0

import keras
import numpy as np
import pytest

from keras_advdef.training.finite_guard import FiniteGuard


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

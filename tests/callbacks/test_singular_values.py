import keras
import numpy as np
import pytest

from keras_advdef.callbacks import SingularValues


def net():
    layers = [
        keras.layers.Conv2D(3, 3, name="convolution"),
        keras.layers.DepthwiseConv2D(3, name="depthwise"),
        keras.layers.Flatten(),
        keras.layers.Dense(2, name="head"),
    ]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers])
    model.compile("sgd", "mse")
    return model


DATA = np.zeros((2, 6, 6, 1)), np.zeros((2, 2))


def test_logs_the_values_after_each_epoch():
    model = net()
    history = model.fit(
        *DATA, epochs=2, callbacks=[SingularValues()], verbose=0
    ).history
    names = [
        f"{layer}_{which}_singular_value"
        for layer in ("convolution", "depthwise", "head")
        for which in ("smallest", "largest")
    ]
    assert set(names) <= set(history)
    assert all(len(history[name]) == 2 for name in names)
    values = np.linalg.svd(model.get_layer("head").kernel, compute_uv=False)
    assert history["head_largest_singular_value"][-1] == pytest.approx(values[0])
    assert history["head_smallest_singular_value"][-1] == pytest.approx(values[-1])
    kernel = np.reshape(model.get_layer("depthwise").kernel, (9, 3))
    norms = np.linalg.norm(kernel, axis=0)
    found = history["depthwise_largest_singular_value"][-1]
    assert found == pytest.approx(norms.max())


def test_callbacks_after_it_see_the_values():
    seen = []

    class After(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append("head_largest_singular_value" in logs)

    net().fit(*DATA, callbacks=[SingularValues(), After()], verbose=0)
    assert seen == [True]


def test_a_model_without_kernels_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="dense or convolutional layer"):
        model.fit(
            np.zeros((2, 2)),
            np.zeros((2, 2)),
            callbacks=[SingularValues()],
            verbose=0,
        )

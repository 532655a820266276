import keras
import numpy as np
import tensorflow as tf

from keras_advdef.layers._resizable_weight import ResizableWeight


class Total(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.matrix = ResizableWeight("matrix")

    def call(self, x):
        return x + tf.reduce_sum(self.matrix)


def _model():
    return keras.Sequential([keras.Input((1,)), Total()])


class TestResizableWeight:
    def test_starts_empty_and_takes_any_size(self):
        weight = ResizableWeight("matrix")
        assert tuple(weight.shape) == (0, 0)
        for shape in ((3, 2), (5, 4), (1, 1)):
            value = np.random.default_rng(0).uniform(size=shape).astype("float32")
            weight.assign(value)
            assert tuple(weight.shape) == shape
            np.testing.assert_array_equal(weight, value)

    def test_is_a_weight_that_is_not_trained(self):
        layer = Total()
        assert layer.non_trainable_weights == [layer.matrix]
        assert layer.trainable_weights == []
        layer.matrix.assign(np.ones((3, 2)))
        assert layer.get_weights()[0].shape == (3, 2)

    def test_traced_functions_see_the_new_value(self):
        layer = Total()
        layer.matrix.assign(np.ones((3, 2)))
        functions = [tf.function(layer.call, jit_compile=jit) for jit in (False, True)]
        for shape in ((3, 2), (5, 4)):
            layer.matrix.assign(np.ones(shape))
            for function in functions:
                assert float(function(tf.zeros(()))) == shape[0] * shape[1]
        assert all(f.experimental_get_tracing_count() == 1 for f in functions)

    def test_shape_is_known_while_a_function_is_traced(self):
        weight = ResizableWeight("matrix")
        weight.assign(np.ones((3, 2)))
        shapes = []
        tf.function(lambda: shapes.append(tuple(weight.shape)))()
        assert shapes == [(3, 2)]

    def test_checkpoint_and_weights_restore_another_size(self, tmp_path):
        model = _model()
        model.layers[0].matrix.assign(np.ones((3, 2)))
        model.save_weights(tmp_path / "m.weights.h5")
        path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
        for load in (
            lambda copy: copy.load_weights(tmp_path / "m.weights.h5"),
            lambda copy: tf.train.Checkpoint(model=copy).restore(path),
        ):
            copy = _model()
            copy.layers[0].matrix.assign(np.ones((1, 7)))
            load(copy)
            assert tuple(copy.layers[0].matrix.shape) == (3, 2)
            assert copy(np.zeros((1, 1))).numpy().item() == 6.0

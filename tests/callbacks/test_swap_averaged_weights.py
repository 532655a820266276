import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.callbacks import SwapAveragedWeights
from keras_advdef.training import AdversarialTrainingModel

_COUNT, _BATCH, _MOMENTUM = 24, 8, 0.6


@pytest.fixture
def data():
    generator = np.random.default_rng(2)
    images = generator.uniform(size=(_COUNT, 4, 4, 1)).astype(np.float32)
    return images, (images.mean(axis=(1, 2, 3)) > 0.5).astype(int)


def _net(*, normalizes=True):
    keras.utils.set_random_seed(4)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(3, 3),
            *([layers.BatchNormalization()] if normalizes else []),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )


class _Watch(keras.callbacks.Callback):
    """Copies weights after each step, before, during and after validation."""

    def __init__(self, model):
        super().__init__()
        self.classifier = model
        self.steps, self.seen = [], {}

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([each.numpy() for each in self.classifier.trainable_weights])
        self.seen["before"] = self._all()

    def on_test_batch_end(self, batch, logs=None):
        self.seen["during"] = self._all()

    def on_epoch_end(self, epoch, logs=None):
        self.seen["after"] = self._all()

    def _all(self):
        variables = self.classifier.variables
        return {
            each.path: each.numpy() for each in variables if "metric" not in each.path
        }


def _fitted(model, classifier, data, **swap):
    optimizer = keras.optimizers.SGD(0.2, use_ema=True, ema_momentum=_MOMENTUM)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    batches = tf.data.Dataset.from_tensor_slices(data).batch(_BATCH)
    watch = _Watch(classifier)
    callbacks = [SwapAveragedWeights(batches, **swap), watch]
    options = {"callbacks": callbacks, "shuffle": False, "verbose": 0}
    model.fit(batches, validation_data=batches, **options)
    return watch


def _average(steps):
    """Keras's moving average, by hand; it begins with the first step's weights."""
    average = [each.copy() for each in steps[0]]
    for weights in steps[1:]:
        for kept, new in zip(average, weights, strict=True):
            kept[...] = _MOMENTUM * kept + (1.0 - _MOMENTUM) * new
    return average


class TestWeights:
    def test_are_the_average_during_validation_and_at_the_end(self, data):
        net = _net()
        watch = _fitted(net, net, data)
        expected = _average(watch.steps)
        during = [watch.seen["during"][each.path] for each in net.trainable_weights]
        for found in (during, [each.numpy() for each in net.trainable_weights]):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-6)

    @pytest.mark.parametrize("wraps", [False, True])
    def test_come_back_bit_for_bit(self, data, wraps):
        net = _net()
        model = AdversarialTrainingModel(net, FGSM(0.1), seed=1) if wraps else net
        watch = _fitted(model, net, data)
        before, after = watch.seen["before"], watch.seen["after"]
        assert before.keys() == after.keys()
        for path, value in before.items():
            np.testing.assert_array_equal(after[path], value, err_msg=path)


class TestStatistics:
    def test_are_those_of_the_averaged_weights(self, data):
        net = _net()
        watch = _fitted(net, net, data)
        during = watch.seen["during"]
        maps = _maps(net, during, data[0])
        for name, reduce in (("moving_mean", np.mean), ("moving_variance", np.var)):
            per_batch = [reduce(each, axis=(0, 1, 2)) for each in maps]
            (found,) = (v for path, v in during.items() if path.endswith(name))
            np.testing.assert_allclose(found, np.mean(per_batch, axis=0), rtol=1e-4)

    def test_are_of_attacked_images_where_training_is(self, data):
        clean = _net()
        model = AdversarialTrainingModel(clean, FGSM(0.0), seed=1)
        watch = _fitted(model, clean, data)
        attacked = _net()
        model = AdversarialTrainingModel(attacked, FGSM(0.3), seed=1)
        moved = _fitted(model, attacked, data)
        (one,), (other,) = (
            [v for path, v in each.seen["during"].items() if "moving_mean" in path]
            for each in (watch, moved)
        )
        assert np.abs(one - other).max() > 1e-3

    def test_most_limits_the_batches(self, data):
        net = _net()
        watch = _fitted(net, net, data, most=1)
        during = watch.seen["during"]
        (first, *_) = _maps(net, during, data[0])
        (found,) = (v for path, v in during.items() if path.endswith("moving_mean"))
        np.testing.assert_allclose(found, first.mean(axis=(0, 1, 2)), rtol=1e-4)


def _maps(net, weights, images):
    """What batch normalization gets of each batch, with these weights."""
    kernel, bias = (weights[each.path] for each in net.layers[0].weights)
    return [
        tf.nn.conv2d(images[at : at + _BATCH], kernel, 1, "VALID").numpy() + bias
        for at in range(0, _COUNT, _BATCH)
    ]


def test_without_normalization_nothing_is_computed(data):
    net = _net(normalizes=False)
    swap = SwapAveragedWeights([])
    net.compile(keras.optimizers.SGD(0.2, use_ema=True), "mse")
    net.optimizer.build(net.trainable_variables)
    swap.set_model(net)
    swap.on_test_begin()
    swap.on_test_end()


def test_refuses_an_optimizer_that_does_not_average(data):
    net = _net()
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="use_ema=True"):
        net.fit(*data, callbacks=[SwapAveragedWeights([])], verbose=0)

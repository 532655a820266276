import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.callbacks import (
    CatastrophicOverfittingGuard,
    RobustAccuracy,
    SwapAveragedWeights,
)
from keras_advdef.core.progress import meter
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import random_net, sparse_loss, weights_of

MOMENTUM = 0.6


def averaging(**options):
    return keras.optimizers.SGD(0.3, use_ema=True, ema_momentum=MOMENTUM, **options)


def normalised_net(*front):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *front,
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )


def plain_net():
    net = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    net.compile(averaging(), sparse_loss())
    return net


def trained_on(batches):
    """Returns the average of the weights that each step left, by the formula."""
    average = batches[0]
    for weights in batches[1:]:
        average = [
            MOMENTUM * old + (1 - MOMENTUM) * new
            for old, new in zip(average, weights, strict=True)
        ]
    return average


class _Watch(keras.callbacks.Callback):
    """Keeps all weights where its place in the list shows them."""

    def __init__(self):
        super().__init__()
        self.batches, self.validations, self.epochs = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(weights_of(self.model))

    def on_test_batch_end(self, batch, logs=None):
        self.validations.append(weights_of(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(weights_of(self.model))


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self._given = batches

    def __len__(self):
        return len(self._given)

    def __getitem__(self, index):
        return self._given[index]


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


class TestSwapAveragedWeights:
    def test_averages_are_where_they_are_measured(self, images, labels):
        model, before, after = plain_net(), _Watch(), _Watch()
        model.fit(
            images,
            labels,
            batch_size=2,
            epochs=2,
            validation_data=(images, labels),
            callbacks=[before, SwapAveragedWeights(), after],
            verbose=0,
        )
        for epoch, steps in enumerate((3, 6)):
            average = trained_on(before.batches[:steps])
            assert_close(before.validations[3 * epoch], average)
            assert_close(after.epochs[epoch], average)
            assert_equal(before.epochs[epoch], before.batches[steps - 1])
        assert_equal(weights_of(model), after.epochs[-1])

    def test_training_is_that_without_it(self, images, labels):
        seen = []
        for swap in (True, False):
            keras.utils.set_random_seed(0)
            model = AdversarialTrainingModel(random_net(), FGSM(0.1), seed=1)
            model.compile(averaging(momentum=0.9), sparse_loss())
            watch = _Watch()
            callbacks = [watch, SwapAveragedWeights(images, labels, batch_size=4)]
            model.fit(
                images,
                labels,
                batch_size=3,
                epochs=3,
                callbacks=callbacks if swap else [watch],
                shuffle=False,
                verbose=0,
            )
            seen.append(watch.batches)
        for one, other in zip(*seen, strict=True):
            assert_equal(one, other)

    def test_statistics_are_of_the_given_images(self, images, labels):
        first = keras.layers.BatchNormalization()
        model = normalised_net(first)
        model.compile(averaging(), sparse_loss())
        swap = SwapAveragedWeights(images, batch_size=4)
        model.fit(images, labels, epochs=2, callbacks=[swap], verbose=0)
        np.testing.assert_allclose(first.moving_mean, [images.mean()], rtol=1e-5)
        np.testing.assert_allclose(first.moving_variance, [images.var()], rtol=1e-5)

    def test_statistics_are_of_the_averaged_weights(self, images, labels):
        model = normalised_net()
        model.compile(averaging(), sparse_loss())
        swap = SwapAveragedWeights(images)
        model.fit(images, labels, epochs=2, callbacks=[swap], verbose=0)
        kernel, bias = model.layers[1].get_weights()
        inputs = images.reshape(6, -1) @ kernel + bias
        found = model.layers[2].get_weights()[2:]
        assert_close(found, [inputs.mean(axis=0), inputs.var(axis=0)])

    def test_frozen_statistics_stay(self, images, labels):
        first = keras.layers.BatchNormalization(trainable=False)
        model = normalised_net(first)
        model.compile(averaging(), sparse_loss())
        before = first.get_weights()
        model.fit(images, labels, callbacks=[SwapAveragedWeights(images)], verbose=0)
        assert_equal(first.get_weights(), before)

    @pytest.mark.parametrize("adversarial", [True, False])
    def test_images_are_attacked_as_in_training(self, adversarial, images, labels):
        first = keras.layers.BatchNormalization()
        classifier = normalised_net(first)
        model = AdversarialTrainingModel(classifier, FGSM(0.05))
        model.compile(averaging(), sparse_loss())
        swap = SwapAveragedWeights(images, labels, adversarial=adversarial)
        raw = _Watch()
        model.fit(images, labels, callbacks=[raw, swap], verbose=0)
        found = first.get_weights()[2:]
        # The attack sees the averaged weights with the statistics of the raw ones.
        for variable, value in zip(model.variables, raw.epochs[-1], strict=False):
            if "moving" in variable.name:
                variable.assign(value)
        seen = images
        if adversarial:
            seen = FGSM(0.05)(classifier, images, labels).numpy()
        np.testing.assert_allclose(found, [[seen.mean()], [seen.var()]], rtol=1e-5)

    def test_every_pass_of_a_step_counts(self, images, labels):
        layer = keras.layers.BatchNormalization()
        inputs = keras.Input((8, 8, 1))
        both = keras.layers.Add()([layer(inputs), layer(2.0 * inputs)])
        outputs = keras.layers.Dense(3)(keras.layers.Flatten()(both))
        model = keras.Model(inputs, outputs)
        model.compile(averaging(), sparse_loss())
        model.fit(images, labels, callbacks=[SwapAveragedWeights(images)], verbose=0)
        seen = np.concatenate([images, 2.0 * images])
        np.testing.assert_allclose(layer.moving_variance, [seen.var()], rtol=1e-5)

    def test_early_stopping_restores_averages(self, images, labels):
        model, watch = normalised_net(), _Watch()
        model.compile(averaging(), sparse_loss())
        stop = keras.callbacks.EarlyStopping(
            "val_loss", mode="max", patience=1, restore_best_weights=True
        )
        swap = SwapAveragedWeights(images)
        history = model.fit(
            images,
            labels,
            epochs=6,
            validation_data=(images, labels),
            callbacks=[swap, watch, stop],
            verbose=0,
        ).history
        best = int(np.argmax(history["val_loss"]))
        assert len(watch.epochs) == best + 2
        assert_equal(weights_of(model), watch.epochs[best])
        restored = model.evaluate(images, labels, verbose=0)
        assert restored == pytest.approx(history["val_loss"][best], rel=1e-5)

    def test_stopping_keeps_averages(self, images, labels):
        model, watch = plain_net(), _Watch()
        stop = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: setattr(model, "stop_training", True)
        )
        callbacks = [watch, SwapAveragedWeights(), stop]
        model.fit(
            images, labels, batch_size=2, epochs=4, callbacks=callbacks, verbose=0
        )
        assert_close(weights_of(model), trained_on(watch.batches))

    def test_is_compiled_once(self, images, labels):
        model = normalised_net()
        model.compile(averaging(), sparse_loss())
        traces = []
        after = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: traces.append(meter.traces)
        )
        swap = SwapAveragedWeights(images, batch_size=4)
        start = meter.traces
        model.fit(images, labels, epochs=3, callbacks=[swap, after], verbose=0)
        assert traces == [start + 1] * 3

    @pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
    @pytest.mark.parametrize("most", [None, 1])
    def test_takes_a_data_set(self, kind, most, images, labels):
        first = keras.layers.BatchNormalization()
        model = normalised_net(first)
        model.compile(averaging(), sparse_loss())
        batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        if kind == "PyDataset":
            batches = Batches(list(batches))
        swap = SwapAveragedWeights(batches, most=most)
        model.fit(images, labels, callbacks=[swap], verbose=0)
        seen = images if most is None else images[:4]
        np.testing.assert_allclose(first.moving_mean, [seen.mean()], rtol=1e-5)

    def test_an_empty_data_set_is_refused(self, images, labels):
        model = normalised_net()
        model.compile(averaging(), sparse_loss())
        with pytest.raises(ValueError, match="`images` to be a data set that is not"):
            model.fit(
                images,
                labels,
                callbacks=[SwapAveragedWeights(Batches([]))],
                verbose=0,
            )

    def test_a_data_set_without_labels_cannot_be_attacked(self, images, labels):
        model = AdversarialTrainingModel(normalised_net(), FGSM(0.1))
        model.compile(averaging(), sparse_loss())
        swap = SwapAveragedWeights(Batches([images]))
        with pytest.raises(ValueError, match="`images` to be a data set with labels"):
            model.fit(images, labels, callbacks=[swap], verbose=0)

    def test_needs_averages(self, images, labels):
        model = normalised_net()
        model.compile("sgd", sparse_loss())
        swap = SwapAveragedWeights(images)
        with pytest.raises(ValueError, match="`optimizer` to be one that averages"):
            model.fit(images, labels, callbacks=[swap], verbose=0)

    def test_needs_images_for_statistics(self, images, labels):
        model = normalised_net()
        model.compile(averaging(), sparse_loss())
        with pytest.raises(ValueError, match="`images` to be images, from which"):
            model.fit(images, labels, callbacks=[SwapAveragedWeights()], verbose=0)

    def test_needs_labels_to_attack(self, images, labels):
        model = AdversarialTrainingModel(normalised_net(), FGSM(0.1))
        model.compile(averaging(), sparse_loss())
        swap = SwapAveragedWeights(images)
        with pytest.raises(ValueError, match=r"`labels`.*or `adversarial=False`"):
            model.fit(images, labels, callbacks=[swap], verbose=0)

    def test_refuses_renormalisation(self, images, labels):
        model = normalised_net(keras.layers.BatchNormalization(renorm=True))
        model.compile(averaging(), sparse_loss())
        swap = SwapAveragedWeights(images)
        with pytest.raises(ValueError, match="without batch renormalisation"):
            model.fit(images, labels, callbacks=[swap], verbose=0)

    def test_refuses_another_order(self, images, labels, tmp_path):
        guard = CatastrophicOverfittingGuard(images, labels, epsilon=0.1)
        stop = keras.callbacks.EarlyStopping("loss")
        robust = RobustAccuracy(FGSM(0.1), (images, labels))
        for place, callbacks in (
            ("before `EarlyStopping`", [robust, stop, SwapAveragedWeights()]),
            ("after `CatastrophicOverfittingGuard`", [SwapAveragedWeights(), guard]),
        ):
            with pytest.raises(ValueError, match=f"listed {place}"):
                plain_net().fit(images, labels, callbacks=callbacks, verbose=0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"images": np.zeros((0, 8, 8, 1))}, "at least one image"),
            ({"images": np.zeros((2, 8, 8, 1)), "labels": [1]}, "one for each image"),
            ({"labels": [1]}, "one for each image"),
            ({"batch_size": 0}, "`batch_size`"),
            ({"most": 0}, "`most`"),
        ],
    )
    def test_rejects(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SwapAveragedWeights(**arguments)

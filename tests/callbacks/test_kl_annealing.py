import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.callbacks import KLAnnealing
from keras_advdef.layers import VariationalDense
from tests.support.nets import sparse_loss


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.normal(0, 1, (8, 4)).astype("float32"), np.arange(8) % 3


@pytest.fixture
def model():
    layers = [VariationalDense(5, "relu", kl_weight=0.5), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.0), sparse_loss())
    return model


class Watch(keras.callbacks.Callback):
    """Notes the share of the divergence in each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(float(self.model.layers[0].kl_scale))


def scales(model, data, callback, **options):
    watch = Watch()
    callbacks = [callback, watch]
    options = {"batch_size": 2, "verbose": 0, "callbacks": callbacks, **options}
    model.fit(*data, **options)
    return watch.seen


class TestKLAnnealing:
    def test_rises_linearly_with_the_steps(self, model, data):
        found = scales(model, data, KLAnnealing(2), epochs=3)
        wanted = [*np.arange(8) / 8, 1.0, 1.0, 1.0, 1.0]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        assert float(model.layers[0].kl_scale) == 1.0
        assert model.layers[0].kl_weight == 0.5

    def test_rises_with_the_epochs(self, model, data):
        callback = KLAnnealing(4, start=0.2, per="epoch")
        found = scales(model, data, callback, epochs=2)
        np.testing.assert_allclose(found, 4 * [0.2] + 4 * [0.4], atol=1e-6)

    def test_fractions_of_an_epoch(self, model, data):
        found = scales(model, data, KLAnnealing(0.5, start=0.5), epochs=1)
        np.testing.assert_allclose(found, [0.5, 0.75, 1.0, 1.0], atol=1e-6)

    def test_resumed_training_goes_on(self, model, data):
        found = scales(model, data, KLAnnealing(4), epochs=3, initial_epoch=2)
        np.testing.assert_allclose(found, [0.5, 0.5625, 0.625, 0.6875], atol=1e-6)

    @pytest.mark.slow
    def test_interrupted_training_goes_on(self, model, data, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise KeyboardInterrupt

        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        watch, annealing = Watch(), KLAnnealing(4)
        options = {"batch_size": 2, "epochs": 3, "verbose": 0}
        with pytest.raises(KeyboardInterrupt):
            model.fit(*data, callbacks=[backup, annealing, Stop()], **options)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(*data, callbacks=[backup, KLAnnealing(4), watch], **options)
        np.testing.assert_allclose(watch.seen, [0.5, 0.5625, 0.625, 0.6875], atol=1e-6)

    def test_moves_the_logged_loss(self, model, data):
        model.layers[-1].kernel.assign(0.0 * model.layers[-1].kernel)
        total = float(model.losses[0])
        callback = KLAnnealing(2, per="epoch")
        options = {"epochs": 3, "verbose": 0, "validation_data": data}
        history = model.fit(*data, callbacks=[callback], **options).history
        wanted = np.log(3) + total * np.array([0.0, 0.5, 1.0])
        np.testing.assert_allclose(history["loss"], wanted, rtol=1e-4)
        np.testing.assert_allclose(history["val_loss"], wanted, rtol=1e-4)

    # How Keras ends an epoch whose length it did not know.
    @pytest.mark.filterwarnings("ignore:Your input ran out of data")
    def test_unknown_number_of_steps_counts_epochs(self, model, data):
        batches = tf.data.Dataset.from_tensor_slices(data).batch(2)
        batches = batches.filter(lambda x, y: True)
        watch, options = Watch(), {"epochs": 2, "shuffle": False, "verbose": 0}
        model.fit(batches, callbacks=[KLAnnealing(2), watch], **options)
        assert sorted(set(watch.seen)) == [0.0, 0.5]

    def test_schedule(self):
        callback = KLAnnealing(10, start=0.1)
        found = [callback.scale(position) for position in (0, 5, 10, 50)]
        np.testing.assert_allclose(found, [0.1, 0.55, 1.0, 1.0])

    def test_rejects_a_model_without_variational_layers(self, net, images, labels):
        net.compile("sgd", sparse_loss())
        with pytest.raises(ValueError, match="`KLAnnealing` expects `model` to be one"):
            net.fit(images, labels, callbacks=[KLAnnealing(2)], verbose=0)

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("epochs", {"epochs": 0}),
            ("start", {"epochs": 1, "start": 1.5}),
            ("per", {"epochs": 1, "per": "batch"}),
        ],
    )
    def test_rejects_arguments(self, name, arguments):
        with pytest.raises(ValueError, match=f"`KLAnnealing` expects `{name}`"):
            KLAnnealing(**arguments)

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.core.logits import LogitsFunction, LogitsModel
from keras_advdef.training import AdversarialTrainingModel, TrainingModel
from tests.support.nets import small_net, sparse_loss


class Pair(LogitsModel):
    """A two-member ensemble that returns probabilities."""

    def __init__(self):
        super().__init__()
        self.nets = [small_net(), small_net()]
        self.built = True

    def call(self, images, training=None):
        return keras.ops.softmax(self.logits(images))

    def logits(self, images, training=False):
        return keras.ops.mean(self.member_logits(images, training), axis=1)

    def member_logits(self, images, training=False):
        return keras.ops.stack([net(images) for net in self.nets], axis=1)


class TestTrainingModel:
    def test_is_the_classifier_to_the_outside(self, net, images, tmp_path):
        model = AdversarialTrainingModel(net, FGSM(0.1))
        assert model.classifier is net
        np.testing.assert_array_equal(model(images), net(images))
        np.testing.assert_array_equal(model.predict(images, verbose=0), net(images))
        np.testing.assert_array_equal(LogitsFunction(model)(images), net(images))
        np.testing.assert_array_equal(
            FGSM(0.1)(model, images, [0] * 6), FGSM(0.1)(net, images, [0] * 6)
        )
        assert model.member_logits(images).shape == (6, 1, 3)

    def test_members_of_an_ensemble_are_reached(self, images):
        model = AdversarialTrainingModel(Pair())
        assert model.member_logits(images).shape == (6, 2, 3)
        expected = np.mean(model.member_logits(images), axis=1)
        np.testing.assert_allclose(LogitsFunction(model)(images), expected, atol=1e-6)

    @pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "object"])
    def test_example_losses_are_the_compiled_loss(self, name, images, labels):
        softmax = small_net(head="softmax")
        model = AdversarialTrainingModel(softmax)
        loss = (
            keras.losses.SparseCategoricalCrossentropy() if name == "object" else name
        )
        model.compile("sgd", loss)
        values = model.example_losses(labels, softmax(images))
        assert values.shape == (6,)
        expected = -np.log(softmax(images).numpy()[np.arange(6), labels])
        np.testing.assert_allclose(values, expected, rtol=1e-5)

    def test_one_hot_labels_and_smoothing(self, net, images, labels):
        model = AdversarialTrainingModel(net, FGSM(0.05))
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1
        )
        model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
        one_hot = np.eye(3, dtype="float32")[labels]
        values = model.example_losses(one_hot, net(images))
        np.testing.assert_allclose(
            np.mean(values), loss(one_hot, net(images)), rtol=1e-6
        )
        assert np.isfinite(model.fit(images, one_hot, verbose=0).history["loss"]).all()

    @pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", None])
    def test_reduction_is_that_of_the_compiled_loss(self, reduction, images, labels):
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        )
        net = small_net()
        plain = keras.models.clone_model(net)
        plain.set_weights(net.get_weights())
        model = AdversarialTrainingModel(net)
        rate = 0.1 if reduction == "sum_over_batch_size" else 0.1 / len(images)
        model.compile(keras.optimizers.SGD(rate), loss)
        plain.compile(keras.optimizers.SGD(0.1), sparse_loss())
        for each in (model, plain):
            each.run_eagerly = True
            each.fit(images, labels, verbose=0)
        for one, other in zip(net.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    @pytest.mark.parametrize("loss", [["mse"], {"dense": "mse"}])
    def test_takes_a_structure_of_one_loss(self, loss, net, images, labels):
        model = AdversarialTrainingModel(net)
        model.compile("sgd", loss, run_eagerly=True)
        one_hot = np.eye(3, dtype="float32")[labels]
        expected = np.mean((net.predict(images, verbose=0) - one_hot) ** 2)
        logs = model.train_on_batch(images, one_hot, return_dict=True)
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("loss", [None, ["mse", "mae"], {"a": "mse", "b": "mae"}])
    def test_rejects_anything_but_one_loss(self, loss, net, images, labels):
        model = AdversarialTrainingModel(net)
        model.compile("sgd", loss)
        with pytest.raises(ValueError, match="compiled with one loss"):
            model.fit(images, labels, verbose=0)

    def test_a_softmax_in_own_code_is_undone(self, images, labels):
        class Opaque(keras.Model):
            def __init__(self, net):
                super().__init__()
                self.net = net

            def call(self, images, training=None):
                return tf.nn.softmax(self.net(images))

        losses = []
        weights = small_net().get_weights()
        for is_opaque in (False, True):
            net = small_net()
            net.set_weights(weights)
            model = AdversarialTrainingModel(
                Opaque(net) if is_opaque else net, FGSM(0.1), seed=0
            )
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not is_opaque)
            model.compile("sgd", loss, run_eagerly=True)
            losses.append(model.fit(images, labels, verbose=0).history["loss"])
        np.testing.assert_allclose(*losses, rtol=1e-5)

    def test_rejects_what_is_no_model(self):
        with pytest.raises(TypeError, match="`classifier` to be a `Model`"):
            AdversarialTrainingModel(lambda x: x)

    @pytest.mark.parametrize("as_dataset", [False, True])
    def test_an_unbuilt_classifier_is_built(self, as_dataset, images, labels, tmp_path):
        net = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
        model = AdversarialTrainingModel(net, FGSM(0.1))
        model.compile("sgd", sparse_loss())
        if as_dataset:
            data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
            model.fit(data, verbose=0, shuffle=False)
        else:
            backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
            model.fit(images, labels, verbose=0, callbacks=[backup])
        model.save(tmp_path / "model.keras")
        copy = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(copy(images), net(images))

    @pytest.mark.parametrize("is_built", [True, False])
    def test_a_step_is_traced_once(self, is_built, images, labels):
        # Keras's own step is traced twice, for the variables that the first trace made.
        traced = []

        class Counted(AdversarialTrainingModel):
            def train_step(self, data):
                traced.append("train")
                return super().train_step(data)

            def test_step(self, data):
                traced.append("test")
                return super().test_step(data)

        inputs = [keras.Input((8, 8, 1))] if is_built else []
        net = keras.Sequential([*inputs, keras.layers.Flatten(), keras.layers.Dense(3)])
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
        model = Counted(net, FGSM(0.1), validation_attack=FGSM(0.1))
        model.compile("adam", sparse_loss(), metrics=["accuracy"])
        model.fit(data, shuffle=False, verbose=0)
        logs = model.evaluate(data, return_dict=True, verbose=0)
        assert traced == ["train", "test"]
        model = Counted(net, validation_attack=FGSM(0.1))
        model.compile("adam", sparse_loss(), metrics=["accuracy"])
        assert model.evaluate(data, return_dict=True, verbose=0) == logs
        assert traced == ["train", "test", "test"]

    def test_several_inputs_are_refused(self, images, labels):
        net = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
        model = AdversarialTrainingModel(net)
        model.compile("sgd", sparse_loss())
        both = {"one": images, "other": images}
        data = tf.data.Dataset.from_tensor_slices((both, labels)).batch(3)
        with pytest.raises(ValueError, match=r"^`AdversarialTrainingModel` expects"):
            model.fit(data, shuffle=False, verbose=0)

    def test_base_trains_nothing(self, net, images, labels):
        model = TrainingModel(net)
        model.compile("sgd", sparse_loss(), run_eagerly=True)
        with pytest.raises(NotImplementedError, match="must write `losses_per_"):
            model.fit(images, labels, verbose=0)

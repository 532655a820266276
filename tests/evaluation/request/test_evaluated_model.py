import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.core.cards import all_cards
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel, load_model
from keras_advdef.evaluation._request.served_model import ServedModel
from keras_advdef.layers import BitDepthReduction, RandomNoise
from keras_advdef.models import AveragingEnsemble
from keras_advdef.objectives import CrossLipschitz, DeepDefense
from keras_advdef.training import AdversarialTrainingModel, DistillationTrainer
from tests.support.nets import linear_net, small_net


class Unnamed(keras.Model):
    """A model that writes no configuration."""

    def __init__(self, width):
        super().__init__()
        self.dense = keras.layers.Dense(width)

    def call(self, inputs):
        return self.dense(keras.ops.reshape(inputs, (-1, 2)))


class TestEvaluatedModel:
    def test_cards_by_name(self):
        inner = small_net(front=[RandomNoise(0.1), BitDepthReduction(3)])
        net = keras.Sequential([keras.Input((8, 8, 1)), inner])
        evaluated = EvaluatedModel.of(net)
        assert evaluated.model is net
        assert list(evaluated.cards) == ["BitDepthReduction", "RandomNoise"]
        assert evaluated.cards["RandomNoise"] is all_cards()["RandomNoise"]
        assert evaluated.can_bypass

    def test_bare_model_has_none(self, net):
        evaluated = EvaluatedModel.of(net)
        assert evaluated.cards == {}
        assert not evaluated.can_bypass

    def test_nothing_can_be_left_out_of_an_ensemble(self, net):
        evaluated = EvaluatedModel.of(AveragingEnsemble([net, small_net()]))
        assert list(evaluated.cards) == ["AveragingEnsemble"]
        assert not evaluated.can_bypass

    def test_training_model_is_its_classifier(self):
        net = small_net()
        evaluated = EvaluatedModel.of(AdversarialTrainingModel(net, FGSM(0.1)))
        assert evaluated.model is net
        assert list(evaluated.cards) == ["AdversarialCrossEntropy"]
        # Training cannot be left out of a pass.
        assert not evaluated.can_bypass

    def test_penalties_and_other_training_have_cards_too(self):
        penalties = [DeepDefense(), CrossLipschitz(weight=1.0)]
        model = AdversarialTrainingModel(small_net(), penalties=penalties)
        assert {"CrossLipschitz", "DeepDefense"} <= set(EvaluatedModel.of(model).cards)
        trainer = DistillationTrainer(small_net())
        evaluated = EvaluatedModel.of(trainer)
        assert evaluated.model is trainer.student
        assert list(evaluated.cards) == ["DistillationTrainer"]
        assert not evaluated.can_bypass

    def test_training_model_with_a_layer(self):
        model = AdversarialTrainingModel(
            small_net(front=[BitDepthReduction(3)]), FGSM(0.1)
        )
        evaluated = EvaluatedModel.of(model)
        assert list(evaluated.cards) == ["AdversarialCrossEntropy", "BitDepthReduction"]
        assert evaluated.can_bypass

    def test_saved_model_cannot_step_aside(self, tmp_path):
        small_net(front=[BitDepthReduction(3)]).export(tmp_path, verbose=False)
        evaluated = EvaluatedModel.of(tmp_path)
        assert isinstance(evaluated.model, ServedModel)
        assert list(evaluated.cards) == ["BitDepthReduction"]
        assert not evaluated.can_bypass
        assert evaluated.image_shape == (8, 8, 1)

    def test_path(self, net, images, tmp_path):
        net.save(tmp_path / "net.keras")
        evaluated = EvaluatedModel.of(str(tmp_path / "net.keras"))
        np.testing.assert_array_equal(evaluated.model(images), net(images))
        assert evaluated.fingerprint == EvaluatedModel.of(net).fingerprint

    def test_image_shape(self, net):
        assert EvaluatedModel.of(net).image_shape == (8, 8, 1)
        assert EvaluatedModel.of(len).image_shape == ()
        assert EvaluatedModel.of(Unnamed(3)).image_shape == ()


class TestFingerprint:
    def test_changes_with_a_weight(self, net):
        before = EvaluatedModel.of(net).fingerprint
        assert EvaluatedModel.of(net).fingerprint == before
        bias = net.layers[-1].bias
        bias.assign(bias + 1e-6)
        assert EvaluatedModel.of(net).fingerprint != before

    def test_changes_with_the_configuration(self):
        prints = set()
        for bits in (3, 4):
            front = [BitDepthReduction(bits, name="front")]
            layers = [*front, keras.layers.Flatten(name="flat")]
            model = keras.Sequential([keras.Input((2, 1, 1)), *layers], name="net")
            prints.add(EvaluatedModel.of(model).fingerprint)
        assert len(prints) == 2

    def test_draws_do_not_count(self, images):
        front = [RandomNoise(0.1), keras.layers.Dropout(0.5)]
        net = small_net(front=front)
        before = EvaluatedModel.of(net).fingerprint
        net(images, training=True)
        assert [front[0].random_state[0], front[1].seed_generator.state[1]] == [256, 1]
        assert EvaluatedModel.of(net).fingerprint == before

    def test_loaded_twice(self, tmp_path):
        # Every load draws another seed.
        small_net(front=[RandomNoise(0.1)]).export(tmp_path / "a", verbose=False)
        first, second = (EvaluatedModel.of(tmp_path / "a") for _ in range(2))
        assert first.fingerprint == second.fingerprint
        small_net(front=[RandomNoise(0.1)]).export(tmp_path / "b", verbose=False)
        assert EvaluatedModel.of(tmp_path / "b").fingerprint != first.fingerprint

    def test_functions_by_name(self):
        first, second = EvaluatedModel.of(len), EvaluatedModel.of(sum)
        assert first.fingerprint == EvaluatedModel.of(len).fingerprint
        assert first.fingerprint != second.fingerprint

    def test_model_without_configuration(self):
        model = Unnamed(3)
        model(tf.zeros((1, 2)))
        before = EvaluatedModel.of(model).fingerprint
        model.dense.bias.assign([0.0, 0.0, 1.0])
        assert EvaluatedModel.of(model).fingerprint != before


class TestLoadModel:
    @pytest.mark.parametrize("suffix", ["keras", "h5"])
    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    def test_keras_files(self, suffix, tmp_path):
        net = linear_net([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0])
        path = tmp_path / f"net.{suffix}"
        net.save(path)
        loaded = load_model(path)
        assert loaded(np.ones((1, 2, 1, 1))).numpy().tolist() == [[3.0, 8.0]]

    def test_saved_model(self, net, tmp_path):
        net.export(tmp_path / "served", verbose=False)
        assert isinstance(load_model(str(tmp_path / "served")), ServedModel)

    @pytest.mark.parametrize("name", ["nowhere", ".", "nowhere.keras"])
    def test_nothing_there(self, name, tmp_path):
        rule = (
            r"`path` to be a \.keras or \.h5 file, or the folder.*There is no such file"
        )
        with pytest.raises(ValueError, match=rule):
            load_model(tmp_path / name)

    def test_names_that_no_file_has(self, tmp_path):
        with pytest.raises(ValueError, match="cannot be opened: File name too long"):
            load_model(tmp_path / ("a" * 5000))

    @pytest.mark.parametrize("name", ["broken.keras", "broken.h5", "broken.npz"])
    def test_no_model(self, name, tmp_path):
        (tmp_path / name).write_bytes(b"no model")
        with pytest.raises(ValueError, match=f"{name}.*Keras says: .*custom_objects"):
            load_model(tmp_path / name)

    def test_unknown_layers(self, tmp_path):
        class Mine(keras.layers.Layer):
            def call(self, inputs):
                return inputs

        keras.Sequential([keras.Input((2,)), Mine()]).save(tmp_path / "mine.keras")
        with pytest.raises(
            ValueError, match="Load a model with custom layers in Python"
        ):
            load_model(tmp_path / "mine.keras")


def test_whole_numbers_that_a_model_takes(net, tmp_path):
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    outputs = keras.layers.Dense(2)(
        keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    )
    model = keras.Model(inputs, outputs)
    model.export(tmp_path / "served", verbose=False)
    assert EvaluatedModel.of(model).whole_input == "uint8"
    with pytest.warns(UserWarning, match="takes uint8"):
        served = EvaluatedModel.of(tmp_path / "served")
    assert served.whole_input == "uint8"
    assert EvaluatedModel.of(net).whole_input == ""
    assert EvaluatedModel.of(len).whole_input == ""


class TestName:
    def test_of_a_file(self, tmp_path):
        small_net().save(tmp_path / "net of mine.keras")
        found = EvaluatedModel.of(str(tmp_path / "net of mine.keras"))
        assert found.name == "net of mine.keras"

    def test_of_what_is_no_file(self):
        net = small_net()
        assert EvaluatedModel.of(net).name == net.name
        assert EvaluatedModel.of(len).name == "len"
        assert EvaluatedModel.of(functools.partial(len)).name == "partial"

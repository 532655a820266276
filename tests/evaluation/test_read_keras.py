import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import untrusted
from keras_advdef.evaluation import read_keras as module
from keras_advdef.evaluation.read_keras import read_keras
from keras_advdef.layers import BitDepthReduction, VariationalDense
from tests.support.nets import small_net


class Refused(Exception):
    pass


class TestReadKeras:
    def test_loads_with_its_weights(self, images, tmp_path):
        net = small_net(front=[BitDepthReduction(3)])
        net.save(tmp_path / "net.keras")
        loaded = read_keras(tmp_path / "net.keras", Refused)
        np.testing.assert_allclose(loaded(images), net(images), atol=1e-6)

    def test_weights_are_counted_before_they_take_memory(self, tmp_path, monkeypatch):
        layers = [keras.Input((6,)), VariationalDense(5), keras.layers.Dense(4)]
        net = keras.Sequential([*layers, keras.layers.BatchNormalization()])
        net.save(tmp_path / "net.keras")
        needed = sum(4 * int(np.prod(weight.shape)) for weight in net.weights)
        budget = module._WeightBudget(2**30)
        with tf.variable_creator_scope(budget):
            again = keras.saving.load_model(tmp_path / "net.keras")
        # States of random layers may have wider numbers.
        assert needed <= budget.asked <= needed + 64
        assert len(again.weights) == len(net.weights)
        monkeypatch.setattr(module, "_FREE_BYTES", budget.asked - 1)
        monkeypatch.setattr(module, "_SHARE_OF_FILE", 0)
        with pytest.raises(Refused, match="more weights than the file holds"):
            read_keras(tmp_path / "net.keras", Refused)
        monkeypatch.setattr(module, "_FREE_BYTES", budget.asked)
        assert read_keras(tmp_path / "net.keras", Refused).built

    def test_parts_that_lie_there_twice(self, tmp_path):
        path = tmp_path / "net.keras"
        small_net().save(path)
        twice = pytest.warns(UserWarning, match="Duplicate name")
        with zipfile.ZipFile(path, "a") as archive, twice:
            archive.writestr("config.json", "{}")
        with pytest.raises(Refused, match="One of its parts lies in it twice"):
            read_keras(path, Refused)

    def test_parts_are_compared_with_the_memory(self, tmp_path, monkeypatch):
        path = tmp_path / "net.keras"
        small_net().save(path)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("assets/zeros", bytes(2**20))
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 2**20)
        with pytest.raises(Refused, match="What it holds would take 1"):
            read_keras(path, Refused)

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    def test_code_in_a_file_does_not_run(self, suffix, tmp_path):
        ran = tmp_path / "ran"
        code = keras.layers.Lambda(lambda x, at=str(ran): [open(at, "w").close(), x][1])
        path = tmp_path / f"net{suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the old format
            keras.Sequential([keras.Input((2,)), code]).save(path)
        ran.unlink()
        with pytest.raises(Refused, match="safe_mode"):
            read_keras(path, Refused)
        assert not ran.exists()

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    def test_savedmodel_in_a_file_is_not_loaded(self, suffix, tmp_path):
        net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        net.export(str(tmp_path / "served"), verbose=False)
        served = keras.layers.TFSMLayer(str(tmp_path / "served"), "serve")
        path = tmp_path / f"net{suffix}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the old format
            keras.Sequential([keras.Input((2,)), served]).save(path)
        with pytest.raises(Refused, match=r"safe_mode|Unknown layer"):
            read_keras(path, Refused)

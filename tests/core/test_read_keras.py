import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import read_keras as module
from keras_advdef.core import untrusted
from keras_advdef.core.read_keras import read_keras
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

    def test_parts_are_compared_with_the_memory(self, tmp_path, monkeypatch):
        path = tmp_path / "net.keras"
        small_net().save(path)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("assets/zeros", bytes(2**20))
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 2**20)
        with pytest.raises(Refused, match="What it holds would take 1"):
            read_keras(path, Refused)

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    @pytest.mark.parametrize("change", ["zeros", "twice", "circle", "link"])
    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    def test_stored_arrays_are_compared_with_the_file(
        self, tmp_path, monkeypatch, suffix, change
    ):
        path = tmp_path / f"net{suffix}"
        small_net().save(path)
        members = {}
        if suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            path.write_bytes(members[module._WEIGHTS])
        with h5py.File(path, "a") as file:
            if change == "circle":
                file["again"] = file["/"]
            elif change == "link":
                file["again"] = h5py.ExternalLink("other.h5", "/large")
            else:
                # Four megabytes in a few thousand bytes.
                zeros = file.create_dataset(
                    "l", data=np.zeros(2**20, "f4"), compression=9
                )
                if change == "twice":
                    file["again"] = zeros
        if members:
            members[module._WEIGHTS] = path.read_bytes()
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
        fits = change != "zeros"
        monkeypatch.setattr(module, "_FREE_STORED", 2**22 if fits else 2**21)
        monkeypatch.setattr(module, "_FREE_BYTES", 2**16)
        if fits:
            assert read_keras(path, Refused).built
        else:
            with pytest.raises(Refused, match="weights are far larger than the file"):
                read_keras(path, Refused)

    def test_parts_that_lie_there_twice(self, tmp_path):
        path = tmp_path / "net.keras"
        small_net().save(path)
        twice = pytest.warns(UserWarning, match="Duplicate name")
        with zipfile.ZipFile(path, "a") as archive, twice:
            archive.writestr("config.json", "{}")
        with pytest.raises(ValueError, match=r"^One of its parts appears twice\.$"):
            read_keras(path, ValueError)

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

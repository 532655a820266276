import gzip
import pickle
import socket
import urllib.error

import keras
import pytest

from keras_advdef.cli.data._keras_datasets import load_keras_dataset
from keras_advdef.core.errors import is_rejection


class TestLoadKerasDataset:
    def test_reads(self, monkeypatch, arrays):
        parts = [
            (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")
        ]
        monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: tuple(parts))
        dataset = load_keras_dataset("mnist")
        assert dataset.name == "mnist"
        assert dataset.x_train.shape == (40, 6, 5, 1)

    def test_says_how_to_go_on_without_network(self, monkeypatch):
        def load_data():
            try:
                raise urllib.error.URLError("no route")
            except urllib.error.URLError:
                # As `keras.utils.get_file` does.
                raise Exception("URL fetch failure")  # noqa: B904

        monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
        before = socket.getdefaulttimeout()
        with pytest.raises(OSError, match=r"cifar10.*no route.*path\.npz.*offline"):
            load_keras_dataset("cifar10")
        assert socket.getdefaulttimeout() == before

    @pytest.mark.parametrize(
        "error",
        [
            KeyError("x_train"),
            EOFError("Compressed file ended"),
            gzip.BadGzipFile("CRC check failed"),
            pickle.UnpicklingError("invalid load key"),
            ValueError("cannot reshape array"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_refuses_a_damaged_cache(self, monkeypatch, error):
        def load_data():
            raise error

        monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
        text = r"intact in Keras's cache.*says: .*Remove the files of mnist in ~"
        with pytest.raises(ValueError, match=text) as caught:
            load_keras_dataset("mnist")
        assert is_rejection(caught.value)

    def test_lets_defects_through(self, monkeypatch):
        class Defect(Exception):
            pass

        def load_data():
            raise Defect

        monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
        with pytest.raises(Defect):
            load_keras_dataset("mnist")

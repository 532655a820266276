import socket
import urllib.error

import keras
import pytest

from keras_advdef.cli.load_keras_dataset import load_keras_dataset


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

    def test_lets_defects_through(self, monkeypatch):
        def load_data():
            raise KeyError("x_train")

        monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
        with pytest.raises(KeyError, match="x_train"):
            load_keras_dataset("mnist")

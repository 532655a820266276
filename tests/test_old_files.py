"""Files written by version 0.1 load, predict and train on as they did there."""

import json
import zipfile

import keras
import numpy as np
import pytest

from tests.golden.keras_0_1 import FOLDER, MODELS, replay

_CONFIGS = json.loads((FOLDER / "configs.json").read_text(encoding="utf-8"))
_PREFIX = "keras_advdef>"
# This class has no config to load from.
_WITHOUT_CONFIG = {"keras_advdef>Transfer"}


def _texts():
    """The config of each file."""
    for name in MODELS:
        with zipfile.ZipFile(FOLDER / f"{name}.keras") as file:
            yield json.loads(file.read("config.json"))
    yield _CONFIGS


def _classes(config):
    """Returns the registered names in a config."""
    if isinstance(config, list):
        return {name for each in config for name in _classes(each)}
    if not isinstance(config, dict):
        return set()
    found = {name for each in config.values() for name in _classes(each)}
    registered = config.get("registered_name")
    return found | ({registered} if registered else set())


def _without_modules(config):
    """Returns a config without the names of the modules of its classes."""
    if isinstance(config, list):
        return [_without_modules(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _without_modules(each) for key, each in config.items() if key != "module"
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_old_model_predicts_and_trains_as_it_did(name):
    with np.load(FOLDER / "outputs.npz") as file:
        expected = dict(file)
    found = replay(name, expected["images"], expected["labels"])
    assert set(found) == {key for key in expected if key.startswith(f"{name}/")}
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[key], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    "config", _CONFIGS, ids=lambda config: f"{config['class_name']}"
)
def test_old_config_loads(config):
    loaded = keras.saving.deserialize_keras_object(config)
    again = keras.saving.serialize_keras_object(loaded)
    plain = json.loads(json.dumps(again))
    assert _of_then(_without_modules(plain), config) == _without_modules(config)


def _of_then(now, then):
    """What is saved now, without arguments that there were not then."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {name: _of_then(now[name], then[name]) for name in now if name in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [_of_then(*pair) for pair in zip(now, then, strict=True)]
    return now


def test_classes_are_found_by_their_registered_names():
    # The files name the module of a class, which may have moved since.
    text = json.dumps(_CONFIGS)
    moved = text.replace('"module": "keras_advdef.', '"module": "moved.')
    assert moved != text
    for config in json.loads(moved):
        keras.saving.deserialize_keras_object(config)


def test_every_old_name_is_still_registered():
    names = {name for text in _texts() for name in _classes(text)} | _WITHOUT_CONFIG
    names = {name for name in names if name.startswith(_PREFIX)}
    assert len(names) == 54
    assert names <= set(keras.saving.get_custom_objects())

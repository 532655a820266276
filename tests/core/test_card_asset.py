import dataclasses
import json

import keras
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from keras_advdef.attacks import FGSM
from keras_advdef.core.cards import all_cards, cards_in
from keras_advdef.layers import BitDepthReduction, RandomNoise
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net


@pytest.fixture
def exported(tmp_path):
    def export(model):
        model.export(tmp_path / "served", verbose=False)
        return cards_in(tmp_path / "served")

    return export


def test_cards_of_all_layers_once(exported):
    front = [RandomNoise(0.1), RandomNoise(0.2), BitDepthReduction(3)]
    cards = exported(keras.Sequential([keras.Input((8, 8, 1)), small_net(front=front)]))
    assert cards == {
        name: all_cards()[name] for name in ("BitDepthReduction", "RandomNoise")
    }


def test_card_of_the_objective(exported):
    model = AdversarialTrainingModel(small_net(), FGSM(0.1))
    assert list(exported(model)) == ["AdversarialCrossEntropy"]
    assert exported(model.classifier) == {}


def test_none_without_a_defence(exported, net):
    assert exported(net) == {}


def test_exported_twice(exported):
    net = small_net(front=[BitDepthReduction(3)])
    for _ in range(2):
        assert list(exported(net)) == ["BitDepthReduction"]


def test_defence_exported_before_into_the_same_folder(exported, net):
    exported(small_net(front=[BitDepthReduction(3)]))
    assert exported(net) == {}


def test_saved_model_loads_and_saves_after_export(exported, tmp_path):
    net = small_net(front=[RandomNoise(0.1)])
    exported(net)
    net.save(tmp_path / "net.keras")
    assert len(keras.saving.load_model(tmp_path / "net.keras").layers) == 6


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("RandomNoise", {}, None),
        ("Random\x1b[2J", {}, "it is of no class"),
        ("RandomNoise", {"gradient": "none"}, "its gradient is unknown"),
        ("RandomNoise", {"category": "magic"}, "its category is unknown"),
        ("RandomNoise", {"standing": ["broken"]}, "one of its facts is no text"),
        ("RandomNoise", {"eot_samples": 10**9}, "draws of EOT"),
        ("RandomNoise", {"attacks": 3}, "not iterable"),
        ("RandomNoise", {"breaks": ["a"]}, "must be a mapping"),
    ],
)
def test_cards_of_others(tmp_path, name, changes, said):
    file = f"keras_advdef_card_{name}.json"
    saved = saved_model_pb2.SavedModel()
    saved.meta_graphs.add().asset_file_def.add(filename=file)
    (tmp_path / "saved_model.pb").write_bytes(saved.SerializeToString())
    (tmp_path / "assets").mkdir()
    card = all_cards()["RandomNoise"]
    facts = {**dataclasses.asdict(card), **changes}
    (tmp_path / "assets" / file).write_text(json.dumps(facts))
    if said is None:
        assert cards_in(tmp_path) == {name: card}
        return
    with pytest.raises(ValueError, match=f"A card in it is damaged.*{said}"):
        cards_in(tmp_path)

import keras
import pytest

from keras_advdef.attacks import FGSM
from keras_advdef.core.card_asset import cards_in
from keras_advdef.core.cards import all_cards
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

import dataclasses
import json

import keras
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from keras_advdef.attacks import FGSM
from keras_advdef.core import cards
from keras_advdef.core.cards import (
    Break,
    DefenceCard,
    all_cards,
    card_of,
    cards_in,
    defence,
)
from keras_advdef.layers import BitDepthReduction, RandomNoise
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net


def _card(**changes):
    facts = {
        "summary": "Does nothing.",
        "category": "input transformation",
        "paper": "Author: Title, venue 2020",
        "claim": "90 % on nothing.",
        "standing": "broken",
        "attacks": ("PGD",),
        "training_cost": "none",
        "inference_cost": "none",
    }
    return DefenceCard(**{**facts, **changes})


@pytest.fixture
def no_cards(monkeypatch):
    """An empty registry, so that test classes do not stay among the defences."""
    monkeypatch.setattr(cards, "_CARDS", {})


class TestDefenceCard:
    def test_defaults_are_those_of_a_deterministic_smooth_defence(self):
        card = _card()
        assert (card.eot_samples, card.gradient, card.breaks) == (1, "exact", ())

    def test_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError, match="standing"):
            _card().standing = "standing"


@pytest.mark.usefixtures("no_cards")
class TestDefence:
    def test_docstring_gets_the_facts(self):
        broken = Break(attack="BPDA", result="0 % left", source="Someone 2021")

        @defence(_card(breaks=(broken,)))
        class Nothing:
            """Does nothing.

            Args:
                none: Nothing.
            """

        assert Nothing.__doc__.startswith("Does nothing.")
        ending = Nothing.__doc__.split("none: Nothing.")[1]
        assert ending == (
            "\n\n    Standing: broken. 90 % on nothing."
            "\n    - BPDA: 0 % left (Someone 2021)."
            "\n\n    Reference:\n        Author: Title, venue 2020.\n    "
        )

    def test_class_without_docstring(self):
        @defence(_card())
        class Nothing:
            pass

        assert "Standing: broken." in Nothing.__doc__

    def test_returns_the_class_itself(self):
        class Nothing:
            pass

        assert defence(_card())(Nothing) is Nothing


@pytest.mark.usefixtures("no_cards")
class TestCardOf:
    def test_class_and_object(self):
        card = _card()
        marked = defence(card)(type("Marked", (), {}))
        assert card_of(marked) is card
        assert card_of(marked()) is card

    def test_anything_else_has_none(self):
        assert card_of(keras.layers.Dense(1)) is None
        assert card_of(int) is None


class TestAllCards:
    @pytest.mark.usefixtures("no_cards")
    def test_sorted_by_name(self):
        for name in ("Second", "Third", "First"):
            defence(_card(summary=name))(type(name, (), {}))
        assert list(all_cards()) == ["First", "Second", "Third"]
        assert [card.summary for card in all_cards().values()] == list(all_cards())

    def test_a_new_dictionary_each_time(self):
        before = all_cards()
        all_cards().clear()
        assert all_cards() == before
        assert before

    @pytest.mark.parametrize("field", ["summary", "claim"])
    def test_sentences_of_all_defences_end(self, field):
        for name, card in all_cards().items():
            assert getattr(card, field).endswith("."), name

    def test_no_paper_of_all_defences_ends_twice(self):
        # The docstring adds the full stop.
        for name, card in all_cards().items():
            assert not card.paper.endswith("."), name


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
        ("Random\x1b[2J", {}, "it does not name a class"),
        ("RandomNoise", {"gradient": "none"}, "its gradient is unknown"),
        ("RandomNoise", {"category": "magic"}, "its category is unknown"),
        ("RandomNoise", {"standing": ["broken"]}, "one of its facts is not a text"),
        ("RandomNoise", {"eot_samples": 10**9}, "its EOT draws are not"),
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

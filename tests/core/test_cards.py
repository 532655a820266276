import dataclasses

import keras
import pytest

from keras_advdef.core import cards
from keras_advdef.core.cards import Break, DefenceCard, all_cards, card_of, defence


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
    """An empty collection, so that test classes do not stay among the defences."""
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
        # The docstring puts the full stop there itself.
        for name, card in all_cards().items():
            assert not card.paper.endswith("."), name

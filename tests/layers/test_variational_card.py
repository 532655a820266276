from keras_advdef.core.cards import card_of
from keras_advdef.layers import (
    VariationalConv2D,
    VariationalDense,
    VariationalDepthwiseConv2D,
)
from keras_advdef.layers._variational_card import variational_card


def test_layers_share_all_but_the_summary():
    layers = (
        VariationalDense(2),
        VariationalConv2D(2, 3),
        VariationalDepthwiseConv2D(3),
    )
    cards = [card_of(layer) for layer in layers]
    for card in cards:
        assert card == variational_card(card.summary)
    assert len({card.summary for card in cards}) == len(cards)


def test_duties_of_the_evaluation():
    card = variational_card("A layer.")
    assert card.summary == "A layer."
    # The paper's claim rests on gradients of single draws.
    assert card.eot_samples >= 10
    assert [each.attack for each in card.breaks] == ["EOT"]
    assert card.standing == "weakened"

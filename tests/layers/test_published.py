from keras_advdef.core.cards import all_cards
from keras_advdef.layers import _published as published


def test_what_is_shared_is_cited_by_several_cards():
    cards = all_cards().values()
    cited = [text for card in cards for text in (card.paper, card.claim)]
    for text in (published.COUNTERING, published.COUNTERING_CLAIM):
        assert cited.count(text) > 1
    assert sum(text.startswith(published.SQUEEZING) for text in cited) > 1
    broken = [found for card in cards for found in card.breaks]
    for shared in (
        published.BROKEN_BY_BPDA,
        published.BROKEN_BY_BPDA_AND_EOT,
        published.EVADED_SQUEEZING,
    ):
        assert broken.count(shared) > 1

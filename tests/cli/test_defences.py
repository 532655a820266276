import io
import json

import pytest
from rich.console import Console

from keras_advdef.cli.defences import defences_table, run_defences
from keras_advdef.core.cards import all_cards


def printed(name=None, *, as_json=False):
    stream = io.StringIO()
    run_defences(name, as_json=as_json, console=Console(file=stream, width=100))
    return stream.getvalue()


def test_overview_names_all():
    text = printed()
    for name, card in all_cards().items():
        assert name in text
        assert card.category in text


def test_one_in_full():
    text, card = printed("RandomResizePad"), all_cards()["RandomResizePad"]
    for fact in (card.paper, card.claim, card.breaks[0].result, "Draws of EOT: 30"):
        assert fact in text


def test_json():
    everything = json.loads(printed(as_json=True))
    assert everything.keys() == all_cards().keys()
    one = json.loads(printed("RandomNoise", as_json=True))
    assert one == everything["RandomNoise"]
    assert one["breaks"][0]["attack"] == "EOT"


def test_unknown_name():
    with pytest.raises(ValueError, match="expects `NAME` to be one of Adaptive"):
        printed("Magic")


def test_table_has_a_row_for_each():
    rows = defences_table().splitlines()[2:]
    assert len(rows) == len(all_cards())
    begun = [row for row in rows if row.startswith("| `RandomResizePad` | random")]
    assert len(begun) == 1
    assert rows == sorted(rows)

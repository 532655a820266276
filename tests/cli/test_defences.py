import io
import json

import pytest
from rich.console import Console

from keras_advdef.cli.defences import defences_table, run_defences
from keras_advdef.core.cards import all_cards


def printed(name=None, *, as_json=False):
    stream = io.StringIO()
    run_defences(name, as_json=as_json, console=Console(file=stream, width=80))
    return stream.getvalue()


def test_overview_names_all_in_80_columns():
    text = printed()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    section, found = None, {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith("    ") and words[:1] and words[0] in all_cards():
            found[words[0]] = (section, words[1])
        elif line.startswith("  ") and not line.startswith("   "):
            section = line.strip()
    assert found == {
        name: (card.category, card.standing) for name, card in all_cards().items()
    }


def test_one_in_full():
    text, card = printed("RandomResizePad"), all_cards()["RandomResizePad"]
    for fact in (card.paper, card.claim, card.breaks[0].result, "EOT samples: 30"):
        assert fact in text


def test_json():
    everything = json.loads(printed(as_json=True))
    assert everything.keys() == all_cards().keys()
    one = json.loads(printed("RandomNoise", as_json=True))
    assert one == everything["RandomNoise"]
    assert one["breaks"][0]["attack"] == "EOT"


def test_part_of_a_defence():
    first, *rest = printed("AdversarialTrainingModel").splitlines()
    name = "AdversarialCrossEntropy"
    assert first == f"AdversarialTrainingModel is part of the defence {name}."
    assert rest == printed(name).splitlines() == printed(name.lower()).splitlines()
    one = json.loads(printed("insert_noise", as_json=True))
    assert one["summary"] == all_cards()["RandomNoise"].summary


def test_unknown_name():
    with pytest.raises(ValueError, match="expects `NAME` to be the name of a defence"):
        printed("Magic")


def test_table_has_a_row_for_each():
    rows = defences_table().splitlines()[2:]
    assert len(rows) == len(all_cards())
    begun = [row for row in rows if row.startswith("| `RandomResizePad` | random")]
    assert len(begun) == 1
    assert rows == sorted(rows)

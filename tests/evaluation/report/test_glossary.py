import re

import pytest

from keras_advdef.evaluation._report.glossary import _TERMS, Glossary
from tests.support.hostile_text import HOSTILE_TEXT


@pytest.fixture
def glossary():
    return Glossary()


def links(html):
    return re.findall(
        r'<a class="term" href="#term-\d+" title="[^"]+">([^<]*)</a>', html
    )


class TestGlossary:
    @pytest.mark.parametrize(
        ("text", "terms"),
        [
            ("linf, epsilon 0.1", ["linf", "epsilon"]),
            ("APGD-25 on dlr, EOT 4", ["APGD", "dlr", "EOT"]),
            ("transferred PGD-50", ["transferred", "PGD"]),
            # The longest term counts, whole words only.
            ("saturated logits", ["saturated logits"]),
            ("logits not probabilities", ["logits not probabilities"]),
            ("Robust accuracy under AutoAttack", ["Robust accuracy", "AutoAttack"]),
            ("nuclear squares, cleaner", []),
        ],
    )
    def test_explains_terms_where_they_stand(self, glossary, text, terms):
        html = glossary.explained(text)
        assert links(html) == terms
        assert re.sub(r"<[^>]*>", "", html) == text

    @pytest.mark.parametrize("text", HOSTILE_TEXT)
    def test_other_text_stays_text(self, glossary, text):
        html = glossary.explained(f"{text} PGD")
        assert links(html) == ["PGD"]
        rest = re.sub(r'<a class="term"[^>]*>|</a>', "", html)
        assert "<" not in rest

    def test_lists_the_terms_that_were_used(self, glossary):
        assert list(glossary.entries()) == []
        html = glossary.explained("PGD and FGSM and PGD")
        entries = list(glossary.entries())
        assert [name for _, name, _ in entries] == ["FGSM", "PGD"]
        for number, _, meaning in entries:
            assert f'href="#term-{number}" title="{meaning}"' in html

    def test_every_term_is_found_under_its_name(self):
        for name, _, meaning in _TERMS:
            glossary = Glossary()
            glossary.explained(name)
            found = [each[1] for each in glossary.entries()]
            # Two are shown with their methods only.
            assert found == [name] or name in ("95 % interval", "nearest images")
            assert meaning.endswith((".", "?"))

    def test_every_check_is_explained(self, shared_report):
        for check in shared_report.checks:
            glossary = Glossary()
            glossary.explained(check["name"].replace("_", " "))
            (entry,) = glossary.entries()
            assert entry[2].startswith("Check: ")

"""Writes what each operation gives for each form of model.

`python -m tests.golden.model_forms` runs all of them, which takes some half an hour on
two cores; `python -m tests.golden.model_forms FORM ...` runs a few forms again. Both
write `model_forms.json`, which the tests compare with, and `docs/model_forms.md`.
"""

import json
import sys
from pathlib import Path

from tests.support.form_operations import EQUAL, OPERATIONS, outcome
from tests.support.model_forms import BODIES, FORMS, HEADS

OUTCOMES = Path(__file__).with_name("model_forms.json")
PAGE = Path(__file__).parents[2] / "docs" / "model_forms.md"
_INTRODUCTION = """# Forms of models, and what can be done with them

Written by `python -m tests.golden.model_forms`. Each form stands in
`tests/support/model_forms.py`, each operation in `tests/support/form_operations.py`.

**=** means that the operation gives for the form what it gives for the same net with
its logits laid bare: the same history to 1e-5, the same images to rounding (to 1e-3
where a head cannot be undone and the logarithm of the probabilities stands in). A
number names the sentence below with which the operation is refused.
"""


def outcomes() -> dict[str, dict[str, str]]:
    """Returns the recorded outcomes, by form and operation."""
    return json.loads(OUTCOMES.read_text(encoding="utf-8"))


def page(recorded: dict[str, dict[str, str]]) -> str:
    """Returns the page of the recorded outcomes."""
    sentences: list[str] = []
    tables = []
    for title, forms in (("Heads", HEADS), ("Bodies", BODIES)):
        rows = [_row(form.name, recorded[form.name], sentences) for form in forms]
        names = [name.replace("_", " ") for name in OPERATIONS]
        header = f"| form | {' | '.join(names)} |"
        tables.append("\n".join([f"## {title}\n", header, _rule(len(names)), *rows]))
    notes = [f"{number}. {text}" for number, text in enumerate(sentences, 1)]
    refused = "\n".join(["## Refused\n", *(notes or ["Nothing."])])
    return "\n\n".join([_INTRODUCTION.rstrip(), *tables, refused]) + "\n"


def _rule(columns: int) -> str:
    return "|" + " --- |" * (columns + 1)


def _row(name: str, cells: dict[str, str], sentences: list[str]) -> str:
    marks = []
    for operation in OPERATIONS:
        sentence = cells[operation]
        if sentence != EQUAL and sentence not in sentences:
            sentences.append(sentence)
        marks.append("=" if sentence == EQUAL else str(sentences.index(sentence) + 1))
    return f"| {name.replace('_', ' ')} | {' | '.join(marks)} |"


def main(names: list[str]) -> None:
    """Runs the forms of these names, or all, and writes both files."""
    recorded = outcomes() if names else {}
    for form in FORMS:
        if not names or form.name in names:
            recorded[form.name] = {
                operation: outcome(operation, form) for operation in OPERATIONS
            }
            sys.stdout.write(f"{form}: {recorded[form.name]}\n")
            sys.stdout.flush()
    text = json.dumps(recorded, indent=1, sort_keys=True)
    OUTCOMES.write_text(text + "\n", encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(recorded), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

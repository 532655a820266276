"""Records the outcome of each operation for each form of model.

`python -m tests.golden.model_forms` runs every form, which takes about half an hour on
two cores; `python -m tests.golden.model_forms FORM ...` runs only those named. Both
write `model_forms.json`, which the tests compare with, and `docs/model_forms.md`. After
a change of the page's words alone, `python -m tests.golden.refresh` writes the page.
"""

import json
import sys
from pathlib import Path

from tests.support.form_operations import EQUAL, OPERATIONS, outcome
from tests.support.model_forms import BODIES, FORMS, HEADS

OUTCOMES = Path(__file__).with_name("model_forms.json")
PAGE = Path(__file__).parents[2] / "docs" / "model_forms.md"
_INTRODUCTION = """# Which forms of model work

A classifier may end in a softmax, in one sigmoid unit or in logits; it may take images
in 0..255 or without a channel axis. This page lists every form that the tests try, and
what each operation does with it.

**=** means: the result is the same as for the same net with plain logits. Training has
the same history to 1e-5, and attacks give the same images up to rounding (to 1e-3 where
the head cannot be undone and the logarithm of the probabilities is used). A number
refers to the list below the tables: the operation refuses that form with this message.

The forms are defined in `tests/support/model_forms.py`, the operations in
`tests/support/form_operations.py`. `python -m tests.golden.model_forms` runs them all
and writes this page.
"""


def outcomes() -> dict[str, dict[str, str]]:
    """Returns the recorded outcomes, by form and operation."""
    return json.loads(OUTCOMES.read_text(encoding="utf-8"))


def page(recorded: dict[str, dict[str, str]]) -> str:
    """Returns the documentation page of the outcomes."""
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
    """Runs the named forms, or all, and writes both files."""
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

"""Every operation on every form of model gives what is recorded in `golden`."""

import pytest

from tests.golden.model_forms import outcomes
from tests.support.form_operations import OPERATIONS, outcome
from tests.support.model_forms import FORMS

_RECORDED = outcomes()
_CELLS = [(operation, form) for form in FORMS for operation in OPERATIONS]
# In the gate, the commonest head and the one with two classes go through every
# operation; of the other forms each operation takes a fourth, a different one each.
_ALWAYS = ("softmax_dense", "sigmoid_unit")


def _case(index, operation, form):
    turn = (index % len(OPERATIONS) + index // len(OPERATIONS)) % 4
    marks = () if form.name in _ALWAYS or turn == 0 else (pytest.mark.nightly,)
    return pytest.param(operation, form, id=f"{form}-{operation}", marks=marks)


@pytest.mark.parametrize(
    ("operation", "form"),
    [_case(index, *cell) for index, cell in enumerate(_CELLS)],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forms_in_operations(operation, form):
    assert outcome(operation, form) == _RECORDED[form.name][operation]


def test_no_form_is_refused_everywhere():
    for form in FORMS:
        assert "equal" in _RECORDED[form.name].values(), form

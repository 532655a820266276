"""Every operation on every form of model gives what is recorded in `golden`."""

import pytest

from tests.golden.model_forms import outcomes
from tests.support.form_operations import OPERATIONS, outcome
from tests.support.model_forms import FORMS

_RECORDED = outcomes()
# In the gate, the commonest head and the one with two classes go through every
# operation, and each other form through one, a different one each. Those that take
# longest, an evaluation and a fit with penalties, are not among these.
_ALWAYS = ("softmax_dense", "sigmoid_unit")
_LONG = ("evaluate", "hardening", "penalties")
_IN_TURN = [each for each in OPERATIONS if each not in _LONG]


def _case(index, form, operation):
    turn = _IN_TURN[index % len(_IN_TURN)]
    is_gated = form.name in _ALWAYS or operation == turn
    marks = () if is_gated else (pytest.mark.nightly,)
    return pytest.param(operation, form, id=f"{form}-{operation}", marks=marks)


@pytest.mark.parametrize(
    ("operation", "form"),
    [
        _case(index, form, operation)
        for index, form in enumerate(FORMS)
        for operation in OPERATIONS
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forms_in_operations(operation, form):
    assert outcome(operation, form) == _RECORDED[form.name][operation]


def test_no_form_is_refused_everywhere():
    for form in FORMS:
        assert "equal" in _RECORDED[form.name].values(), form

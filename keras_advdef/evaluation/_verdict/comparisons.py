"""compare_attacks: checks that compare attacks of which one must not be the weaker."""

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from keras_advdef.evaluation._plan.offending_operations import LARGEST_SHARE
from keras_advdef.evaluation._verdict.evidence import Evidence
from keras_advdef.evaluation._verdict.not_run import not_run
from keras_advdef.evaluation._verdict.p_values import (
    FEWEST,
    clear_chance,
    overall_or_class,
    share_test,
    sign_test,
    significant,
)
from keras_advdef.evaluation.check import Check

# Honest models have hardly any image with a false gradient.
_USUALLY_FALSE = 0.02
# The naive attack has fewer steps, so it may fall this far behind on an honest model.
_OBFUSCATED = 0.1


class _Comparison(NamedTuple):
    """Two check attacks; the expected one must not be clearly the weaker."""

    name: str
    suspect: str
    expected: str
    reason: str


_COMPARISONS = (
    _Comparison(
        "more_steps", "iterative", "more-steps", "more steps weaken the attack"
    ),
    _Comparison(
        "iterative_vs_one_step",
        "fgsm",
        "iterative",
        "a one-step attack is stronger than an iterative one",
    ),
    _Comparison(
        "black_box_vs_white_box",
        "black-box",
        "more-steps",
        "a black-box attack is stronger than a white-box one",
    ),
    _Comparison(
        "decisions_vs_white_box",
        "decision",
        "more-steps",
        "an attack that sees only decisions is stronger than a white-box one",
    ),
    _Comparison(
        "transfer_vs_white_box",
        "transfer",
        "more-steps",
        "images transferred from another model are stronger than a white-box attack",
    ),
    _Comparison(
        "noise_vs_attack",
        "noise",
        "more-steps",
        "random noise is stronger than a gradient attack",
    ),
    _Comparison(
        "saturated_logits",
        "temperature",
        "iterative",
        "saturated logits hide the gradient",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tested:
    """A check that fails if what was measured is no chance.

    Attributes:
        check: The check, as if it had passed.
        chance: How likely the result is on an honest model.
    """

    check: Check
    chance: float


def compare_attacks(evidence: Evidence) -> dict[str, Check]:
    """Returns the checks that rest on a test of significance, by name.

    They are corrected for their number, and look at all images and at each class.

    Args:
        evidence: The measurements.
    """
    found = [
        *(_compared(evidence, comparison) for comparison in _COMPARISONS),
        _true_gradients(evidence),
        _obfuscated(evidence),
    ]
    chances = {
        each.check.name: each.chance for each in found if each.check.passed is not None
    }
    failed = significant(chances)
    if failed == {"naive_vs_adaptive"} and _hides_nothing(evidence, chances):
        # Stronger gradient attacks found more, as they should.
        failed.clear()
    return {
        each.check.name: dataclasses.replace(each.check, passed=False)
        if each.check.name in failed
        else each.check
        for each in found
    }


def _hides_nothing(evidence: Evidence, ran: Collection[str]) -> bool:
    """Whether all attacks saw the same model, and gradients that lead somewhere."""
    probed = evidence.probed
    is_shown = probed.saturated <= LARGEST_SHARE and evidence.rejected is None
    return probed.is_plain and is_shown and "true_gradients" in ran


def _not_run(name: str, reason: str, why: str) -> Tested:
    return Tested(check=not_run(name, reason, why), chance=1.0)


def too_few(count: int) -> str:
    """Says why a check on so few images says nothing, as half a sentence; "" if not.

    Args:
        count: Number of images that the model classifies correctly.

    Example:

    >>> from keras_advdef.evaluation._verdict.comparisons import too_few
    >>> too_few(1)
    'it takes 10 correctly classified images, and there is 1'
    """
    if count >= FEWEST:
        return ""
    there = "is 1" if count == 1 else f"are {count}"
    return f"it takes {FEWEST} correctly classified images, and there {there}"


def _compared(evidence: Evidence, comparison: _Comparison) -> Tested:
    """Fails if the attack that should be weaker is clearly stronger."""
    name, suspect, expected, reason = comparison
    if suspect not in evidence.broken:
        why = evidence.absent.get(suspect, "there is no such attack for this norm")
        return _not_run(name, reason, why)
    one = evidence.broken[suspect]
    other = evidence.broken[expected][: len(one)]
    if why := too_few(len(one)):
        return _not_run(name, reason, why)
    labels = evidence.labels[evidence.checked[: len(one)]]
    chance, label = overall_or_class(clear_chance, labels, one, other)
    mine = np.ones(len(one), bool) if label is None else labels == label
    which = "" if label is None else f" of class {label}"
    detail = (
        f"Misclassified images, of {mine.sum()}{which}: {one[mine].sum()} under "
        f"{evidence.attacks[suspect]}; {other[mine].sum()} under "
        f"{evidence.attacks[expected]}."
    )
    check = Check(name=name, passed=True, detail=detail, reason=reason)
    return Tested(check=check, chance=chance)


def _true_gradients(evidence: Evidence) -> Tested:
    name, reason = "true_gradients", "gradients are not those of the model's function"
    truth = evidence.truth
    if truth is None:
        why = "this package's defences inside say that their gradients approximate"
        return _not_run(name, reason, why)
    if why := too_few(int(truth.settled.sum())):
        what = "the model draws at random in a way that cannot be repeated"
        return _not_run(name, reason, what if len(truth.settled) >= FEWEST else why)
    flags, labels = truth.is_false, evidence.labels[: len(truth.settled)]

    def test(flagged: np.ndarray) -> float:
        return share_test(flagged, _USUALLY_FALSE)

    chance, label = overall_or_class(test, labels, flags)
    mine = slice(None) if label is None else labels == label
    which = "" if label is None else f" of class {label}"
    detail = (
        f"For {flags[mine].sum()} of {len(flags[mine])} images{which}, short steps "
        "along the gradient do not do what it promises, or less than other steps."
    )
    check = Check(name=name, passed=True, detail=detail, reason=reason)
    return Tested(check=check, chance=chance)


def _obfuscated(evidence: Evidence) -> Tested:
    name = "naive_vs_adaptive"
    reason = "obfuscated gradients, as the naive attack is far weaker than the rest"
    naive, adaptive = evidence.naive, evidence.adaptive
    if why := too_few(len(naive)):
        return _not_run(name, reason, why)
    detail = (
        f"Accuracy is {100 * (1 - naive.mean()):.1f} % under the naive attack and "
        f"{100 * (1 - adaptive.mean()):.1f} % under all attacks."
    )
    if evidence.probed.naive.bypass_defences:
        detail += " The naive attack is crafted without this package's defences."
    is_large = float(adaptive.mean() - naive.mean()) > _OBFUSCATED
    chance = sign_test(adaptive > 0.5, naive > 0.5) if is_large else 1.0
    check = Check(name=name, passed=True, detail=detail, reason=reason)
    return Tested(check=check, chance=chance)

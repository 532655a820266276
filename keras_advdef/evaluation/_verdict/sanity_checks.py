"""The questions that tell robust models from models that hide their gradients.

After Carlini et al. 2019, "On evaluating adversarial robustness", and Athalye et al.
2018, "Obfuscated gradients give a false sense of security".
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from keras_advdef.evaluation._plan.offending_operations import LARGEST_SHARE
from keras_advdef.evaluation._plan.traits import ProbeResult
from keras_advdef.evaluation._verdict.check import Check
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate

# One attack is clearly stronger than another if it breaks so many images more, and
# chance alone would seldom do that.
_CLEARLY = 0.03
_CHANCE = 0.01
# The naive attack has fewer steps; this much it may fall behind on an honest model.
_OBFUSCATED = 0.1
# A gradient attack without bounds breaks nearly all images of an honest model; a
# larger share is left with 97.5 % confidence before that counts.
_LEFT_WITHOUT_BOUNDS = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What the checks look at.

    Attributes:
        chance: Whether clean images are right more often than by chance.
        traits: What the model turned out to be.
        broken: For each check attack, which of the first images it broke.
        labels: What each check attack is called.
        naive: In which share of its draws each image is wrong, when clean or under
            the naive attack.
        adaptive: The same under the worst of all attacks.
        at_full_range: What a gradient attack without bounds leaves.
        rejected: The class that stands for "adversarial", or `None`.
        rejections: Share of the naively attacked images that went to it.
    """

    chance: Check
    traits: ProbeResult
    broken: dict[str, np.ndarray]
    labels: dict[str, str]
    naive: np.ndarray
    adaptive: np.ndarray
    at_full_range: AccuracyEstimate
    rejected: int | None
    rejections: float


def sanity_checks(evidence: Evidence) -> list[Check]:
    """Returns the verdicts, always the same ones in the same order.

    Args:
        evidence: What was measured.
    """
    return [
        evidence.chance,
        _reaches_zero(evidence),
        *(_compared(evidence, comparison) for comparison in _COMPARISONS),
        _gradients(evidence.traits),
        _saturated(evidence),
        _probabilities(evidence.traits),
        _deterministic(evidence.traits),
        _rejection(evidence),
        _obfuscated(evidence),
    ]


class _Comparison(NamedTuple):
    """Two check attacks of which the second must not be clearly the weaker one."""

    name: str
    suspect: str
    expected: str
    reason: str


_COMPARISONS = (
    _Comparison(
        "more_steps", "iterative", "more-steps", "more steps help the defender"
    ),
    _Comparison(
        "iterative_vs_one_step", "fgsm", "iterative", "one step is stronger than many"
    ),
    _Comparison(
        "black_box_vs_white_box",
        "black-box",
        "more-steps",
        "a black-box attack is stronger than a white-box one",
    ),
    _Comparison(
        "transfer_vs_white_box",
        "transfer",
        "more-steps",
        "transferred images are stronger than a white-box attack",
    ),
    _Comparison(
        "noise_vs_attack",
        "noise",
        "more-steps",
        "random noise is stronger than the attack",
    ),
)


def clearly_more(strong: np.ndarray, weak: np.ndarray) -> bool:
    """Returns whether one attack broke clearly more of the same images than another.

    Images that only one of the two broke decide, by an exact one-sided sign test.

    Args:
        strong: Which images the one broke, booleans.
        weak: Which the other broke.

    Example:

    >>> from keras_advdef.evaluation._verdict.sanity_checks import clearly_more
    >>> clearly_more(np.arange(100) < 20, np.arange(100) < 5)
    True
    >>> clearly_more(np.arange(100) < 7, np.arange(100) < 5)
    False
    """
    from scipy.stats import binomtest

    only_strong, only_weak = int((strong & ~weak).sum()), int((weak & ~strong).sum())
    if only_strong - only_weak <= _CLEARLY * len(strong):
        return False
    test = binomtest(only_strong, only_strong + only_weak, 0.5, alternative="greater")
    return bool(test.pvalue < _CHANCE)


def _compared(evidence: Evidence, comparison: _Comparison) -> Check:
    """Passes unless the attack that should be weaker is clearly the stronger one."""
    name, suspect, expected, reason = comparison
    if suspect not in evidence.broken:
        why = (
            "no surrogate and no reference were given"
            if suspect == "transfer"
            else "no such attack in this norm"
        )
        return Check(name=name, passed=None, detail=f"Not run: {why}.", reason=reason)
    one, other = evidence.broken[suspect], evidence.broken[expected]
    if not len(one):
        detail = "Not run: the model has none of the images right."
        return Check(name=name, passed=None, detail=detail, reason=reason)
    detail = (
        f"{evidence.labels[suspect]}: {int(one.sum())} of {len(one)} images broken; "
        f"{evidence.labels[expected]}: {int(other.sum())}."
    )
    passed = not clearly_more(one, other)
    return Check(name=name, passed=passed, detail=detail, reason=reason)


def _reaches_zero(evidence: Evidence) -> Check:
    left = evidence.at_full_range
    detail = (
        f"{left.correct} of {left.count} images stand against a gradient attack that "
        "may change every pixel to any value."
    )
    return Check(
        name="accuracy_reaches_zero",
        passed=left.interval[0] <= _LEFT_WITHOUT_BOUNDS,
        detail=detail,
        reason="accuracy does not reach 0 as epsilon grows",
    )


def _gradients(traits: ProbeResult) -> Check:
    detail = f"{100 * traits.no_gradient:.0f} % of the images have no input gradient"
    if traits.identity:
        names = ", ".join(getattr(each, "name", str(each)) for each in traits.identity)
        detail += (
            f"; with the identity behind {names} (BPDA) it is "
            f"{100 * traits.no_gradient_by_identity:.0f} %"
        )
    if not traits.has_gradient:
        detail += "; only score- and decision-based attacks are of use"
    detail += "."
    reason = "input gradients are missing"
    if traits.whole_input:
        reason += f", as images are rounded to {traits.whole_input} on their way in"
        detail += f" The model takes images of {traits.whole_input}, which rounds"
        detail += " adversarial ones"
        detail += (
            "." if traits.no_gradient else "; it was called on floats as they are."
        )
    return Check(
        name="input_gradients",
        passed=traits.no_gradient <= LARGEST_SHARE,
        detail=detail,
        reason=reason,
    )


def _saturated(evidence: Evidence) -> Check:
    traits = evidence.traits
    divided, plain = evidence.broken["temperature"], evidence.broken["iterative"]
    detail = (
        f"{100 * traits.saturated:.0f} % of the images have a cross-entropy without "
        f"gradient; the median gap between the largest logits is {traits.gap:.3g}. "
        f"{evidence.labels['temperature']}: {int(divided.sum())} of {len(divided)} "
        f"images broken; {evidence.labels['iterative']}: {int(plain.sum())}."
    )
    stronger = bool(len(plain)) and clearly_more(divided, plain)
    return Check(
        name="saturated_logits",
        passed=traits.saturated <= LARGEST_SHARE and not stronger,
        detail=detail,
        reason="logits are saturated",
    )


def _probabilities(traits: ProbeResult) -> Check:
    detail = "The model returns logits."
    if traits.probabilities:
        detail = (
            "The model returns probabilities, whose softmax cannot be undone; their "
            f"logarithm was attacked. {100 * traits.certain:.0f} % of the images are "
            "given to one class with certainty, which hides how far the others are. "
            "Return logits instead."
        )
    return Check(
        name="logits_not_probabilities",
        passed=traits.certain <= LARGEST_SHARE,
        detail=detail,
        reason="certain probabilities stand where logits were expected",
    )


def _deterministic(traits: ProbeResult) -> Check:
    detail = "Five runs give the same logits."
    if traits.is_random:
        detail = (
            f"Logits of five runs differ by up to {traits.spread:.3g}; the attacks "
            f"average gradients over up to {traits.draws} draws (EOT)."
        )
    if traits.is_random and traits.is_declared_random:
        names = [name for name, card in traits.cards.items() if card.eot_samples > 1]
        detail += f" That is the defence of {', '.join(names)}."
    elif traits.is_random:
        detail += (
            " If augmentation goes on in an exported model, export with "
            "training=False, as `models.export_model` does."
        )
    return Check(
        name="deterministic",
        passed=not traits.is_random or traits.is_declared_random,
        detail=detail,
        reason="outputs are random, by no layer of this package",
    )


def _rejection(evidence: Evidence) -> Check:
    detail = "No class that is no label takes many attacked images."
    declared = evidence.traits.rejects
    if declared:
        detail = (
            "The model is a detector by its own account; attacks were aimed past it, "
            "and clean images that it flags count as wrong."
        )
    elif evidence.rejected is not None:
        detail = (
            f"Class {evidence.rejected} is no label and takes "
            f"{100 * evidence.rejections:.0f} % of the naively attacked images: it is "
            "taken as a detector's verdict, and attacks were aimed past it."
        )
    return Check(
        name="no_detector",
        passed=declared or evidence.rejected is None,
        detail=detail,
        reason="a detector takes the attacked images",
    )


def _obfuscated(evidence: Evidence) -> Check:
    naive, adaptive = evidence.naive, evidence.adaptive
    difference = float(adaptive.mean() - naive.mean())
    is_clear = clearly_more(adaptive > 0.5, naive > 0.5)
    detail = (
        f"Accuracy is {100 * (1 - naive.mean()):.1f} % under the naive attack, "
        f"{100 * (1 - adaptive.mean()):.1f} % under all."
    )
    if evidence.traits.naive.unaware:
        detail += " The naive attacker leaves this package's defences out."
    return Check(
        name="naive_vs_adaptive",
        passed=difference <= _OBFUSCATED or not is_clear,
        detail=detail,
        reason="obfuscated gradients, since the naive attack is far weaker",
    )

"""Sanity checks that tell robust models from models with masked gradients.

After Carlini et al. 2019, "On evaluating adversarial robustness", and Athalye et al.
2018, "Obfuscated gradients give a false sense of security".
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from keras_advdef.evaluation._plan.offending_operations import LARGEST_SHARE
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.check import Check

# One attack is clearly stronger than another if it breaks this share of the images
# more, at this level of significance.
_CLEARLY = 0.03
_CHANCE = 0.01
# The naive attack has fewer steps, so it may fall this far behind on an honest model.
_OBFUSCATED = 0.1
# An unbounded gradient attack breaks nearly all images of an honest model. The check
# fails only if more than this share survives with 97.5 % confidence.
_LEFT_WITHOUT_BOUNDS = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The measurements that the checks use.

    Attributes:
        chance: Whether clean images are classified better than by chance.
        probed: What the probe found out about the model.
        broken: For each check attack, which of the first images it broke.
        labels: Name of each check attack, for readers.
        naive: For each image, the share of draws on which it is misclassified, clean
            or under the naive attack.
        adaptive: The same under the worst of all attacks.
        at_full_range: Accuracy under a gradient attack without bounds.
        rejected: The class that means "adversarial", or `None`.
        rejections: Share of the naively attacked images predicted as that class.
        undecided: Attacked images for which the model gives NaN or infinity.
    """

    chance: Check
    probed: ProbeResult
    broken: dict[str, np.ndarray]
    labels: dict[str, str]
    naive: np.ndarray
    adaptive: np.ndarray
    at_full_range: AccuracyEstimate
    rejected: int | None
    rejections: float
    undecided: int


def sanity_checks(evidence: Evidence) -> list[Check]:
    """Returns the verdicts: always the same checks, in the same order.

    Args:
        evidence: The measurements.
    """
    return [
        evidence.chance,
        _reaches_zero(evidence),
        *(_compared(evidence, comparison) for comparison in _COMPARISONS),
        _gradients(evidence.probed),
        _saturated(evidence),
        _probabilities(evidence.probed),
        _finite(evidence),
        _deterministic(evidence.probed),
        _rejection(evidence),
        _obfuscated(evidence),
    ]


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
)


def clearly_more(strong: np.ndarray, weak: np.ndarray) -> bool:
    """Returns whether one attack broke clearly more of the same images than another.

    This is an exact one-sided sign test on the images that only one of them broke.

    Args:
        strong: Which images the first attack broke, booleans.
        weak: Which images the second attack broke, booleans.

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
    """Fails if the attack that should be weaker is clearly stronger."""
    name, suspect, expected, reason = comparison
    if suspect not in evidence.broken:
        why = (
            "no surrogate or reference model was given"
            if suspect == "transfer"
            else "there is no such attack for this norm"
        )
        return Check(name=name, passed=None, detail=f"Not run: {why}.", reason=reason)
    one, other = evidence.broken[suspect], evidence.broken[expected]
    if not len(one):
        detail = "Not run: the model classifies no image correctly."
        return Check(name=name, passed=None, detail=detail, reason=reason)
    detail = (
        f"Misclassified images, of {len(one)}: {int(one.sum())} under "
        f"{evidence.labels[suspect]}; {int(other.sum())} under "
        f"{evidence.labels[expected]}."
    )
    passed = not clearly_more(one, other)
    return Check(name=name, passed=passed, detail=detail, reason=reason)


def _reaches_zero(evidence: Evidence) -> Check:
    left = evidence.at_full_range
    detail = (
        f"{left.correct} of {left.count} images stay correct under a gradient attack "
        "that may set every pixel to any value."
    )
    return Check(
        name="accuracy_reaches_zero",
        passed=left.interval[0] <= _LEFT_WITHOUT_BOUNDS,
        detail=detail,
        reason="accuracy does not reach 0 as epsilon grows",
    )


def _gradients(probed: ProbeResult) -> Check:
    detail = f"{100 * probed.no_gradient:.0f} % of the images have no input gradient"
    if probed.bpda_layers:
        names = ", ".join(
            getattr(each, "name", str(each)) for each in probed.bpda_layers
        )
        detail += (
            f"; with the identity as the backward pass of {names} (BPDA), "
            f"{100 * probed.no_gradient_by_identity:.0f} %"
        )
    if not probed.has_gradient:
        detail += "; only score- and decision-based attacks can be used"
    detail += "."
    reason = "input gradients are missing"
    if probed.whole_input:
        reason += f", as the model rounds images to {probed.whole_input}"
        detail += f" The model takes {probed.whole_input} images, so adversarial images"
        detail += " are rounded" + (
            "." if probed.no_gradient else "; the attacks gave it unrounded floats."
        )
    return Check(
        name="input_gradients",
        passed=probed.no_gradient <= LARGEST_SHARE,
        detail=detail,
        reason=reason,
    )


def _saturated(evidence: Evidence) -> Check:
    probed = evidence.probed
    divided, plain = evidence.broken["temperature"], evidence.broken["iterative"]
    detail = (
        f"For {100 * probed.saturated:.0f} % of the images the cross-entropy has no "
        "gradient; the median gap between the two largest logits is "
        f"{probed.gap:.3g}. Misclassified images, of {len(divided)}: "
        f"{int(divided.sum())} under {evidence.labels['temperature']}; "
        f"{int(plain.sum())} under {evidence.labels['iterative']}."
    )
    stronger = bool(len(plain)) and clearly_more(divided, plain)
    return Check(
        name="saturated_logits",
        passed=probed.saturated <= LARGEST_SHARE and not stronger,
        detail=detail,
        reason="saturated logits hide the gradient",
    )


def _probabilities(probed: ProbeResult) -> Check:
    """Only tells: gradients that probabilities hide are the affair of other checks."""
    detail = "The model returns logits."
    if probed.score_total:
        what = "probabilities, and its softmax cannot be removed"
        if probed.score_total != 1.0:
            what = f"scores that sum to {probed.score_total:.4g}, such as votes"
        detail = (
            f"The model returns {what}; their "
            f"logarithm was attacked. For {100 * probed.certain:.0f} % of the images "
            "one class has all of the sum, which hides how close the others are. "
            "Return logits instead."
        )
    return Check(
        name="logits_not_probabilities",
        passed=True,
        detail=detail,
        reason="the model returns probabilities instead of logits",
    )


def _finite(evidence: Evidence) -> Check:
    detail = "The logits of all attacked images are finite."
    if evidence.undecided:
        detail = (
            f"For {evidence.undecided} attacked images the model gives NaN or "
            "infinity; they do not count as misclassified, so fewer images may be "
            "robust than the accuracy says."
        )
    return Check(
        name="finite_logits",
        passed=not evidence.undecided,
        detail=detail,
        reason="the model gives NaN or infinity for attacked images",
    )


def _deterministic(probed: ProbeResult) -> Check:
    detail = "Five runs give the same logits."
    if probed.is_random:
        detail = (
            f"The logits of five runs differ by up to {probed.spread:.3g}, so the "
            f"attacks average gradients over up to {probed.draws} draws (EOT)."
        )
    if probed.differs_under_attack:
        detail = (
            "Five runs on clean images give the same logits, but the answers to "
            "attacked images differ from run to run."
        )
    if probed.is_random and probed.is_declared_random:
        names = [name for name, card in probed.cards.items() if card.eot_samples > 1]
        detail += f" The randomness comes from {', '.join(names)}."
    elif probed.is_random:
        detail += (
            " If an exported model still augments its images, export it with "
            "training=False, as `models.export_model` does."
        )
    return Check(
        name="deterministic",
        passed=not probed.is_random or probed.is_declared_random,
        detail=detail,
        reason="outputs are random, and no defence of this package explains it",
    )


def _rejection(evidence: Evidence) -> Check:
    detail = "No extra class catches attacked images."
    declared = evidence.probed.rejects
    if declared:
        detail = (
            "The model declares that it is a detector, so the attacks had to evade it; "
            "clean images that it flags count as errors."
        )
    elif evidence.rejected is not None:
        detail = (
            f"Class {evidence.rejected} is not among the labels, but is predicted for "
            f"{100 * evidence.rejections:.0f} % of the naively attacked images, and "
            "for most of those that an attack moved which ignores it. It is treated as "
            "a detector's alarm, which the attacks had to evade."
        )
    return Check(
        name="no_detector",
        passed=declared or evidence.rejected is None,
        detail=detail,
        reason="an extra class catches the attacked images",
    )


def _obfuscated(evidence: Evidence) -> Check:
    naive, adaptive = evidence.naive, evidence.adaptive
    difference = float(adaptive.mean() - naive.mean())
    is_clear = clearly_more(adaptive > 0.5, naive > 0.5)
    detail = (
        f"Accuracy is {100 * (1 - naive.mean()):.1f} % under the naive attack and "
        f"{100 * (1 - adaptive.mean()):.1f} % under all attacks."
    )
    if evidence.probed.naive.bypass_defences:
        detail += " The naive attack is crafted without this package's defences."
    return Check(
        name="naive_vs_adaptive",
        passed=difference <= _OBFUSCATED or not is_clear,
        detail=detail,
        reason="obfuscated gradients, as the naive attack is far weaker than the rest",
    )

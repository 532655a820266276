"""Sanity checks that tell robust models from models with masked gradients.

After Carlini et al. 2019, "On evaluating adversarial robustness", and Athalye et al.
2018, "Obfuscated gradients give a false sense of security".
"""

import dataclasses

from keras_advdef.evaluation._plan.offending_operations import LARGEST_SHARE
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._verdict.comparisons import compare_attacks, too_few
from keras_advdef.evaluation._verdict.evidence import Evidence
from keras_advdef.evaluation._verdict.not_run import not_run
from keras_advdef.evaluation.check import Check

# An unbounded gradient attack breaks nearly all images of an honest model. The check
# fails only if more than this share survives with 97.5 % confidence.
_LEFT_WITHOUT_BOUNDS = 0.05


def sanity_checks(evidence: Evidence) -> list[Check]:
    """Returns the verdicts: always the same checks, in the same order.

    Args:
        evidence: The measurements.
    """
    compared = compare_attacks(evidence)
    saturated = compared.pop("saturated_logits")
    obfuscated = compared.pop("naive_vs_adaptive")
    return [
        evidence.chance,
        _reaches_zero(evidence),
        *compared.values(),
        evidence.planted,
        evidence.converged,
        evidence.smooth,
        _gradients(evidence.probed),
        _saturated(evidence.probed, saturated),
        _probabilities(evidence.probed),
        _finite(evidence),
        _deterministic(evidence.probed),
        evidence.steady,
        _rejection(evidence),
        obfuscated,
    ]


def _reaches_zero(evidence: Evidence) -> Check:
    left = evidence.at_full_range
    name, reason = "accuracy_reaches_zero", "accuracy does not reach 0 as epsilon grows"
    if why := too_few(left.count):
        return not_run(name, reason, why)
    detail = (
        f"{left.correct} of {left.count} images stay correct under a gradient attack "
        "that may set every pixel to any value."
    )
    passed = left.interval[0] <= _LEFT_WITHOUT_BOUNDS
    return Check(name=name, passed=passed, detail=detail, reason=reason)


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


def _saturated(probed: ProbeResult, compared: Check) -> Check:
    detail = (
        f"For {100 * probed.saturated:.0f} % of the images the cross-entropy has no "
        "gradient; the median gap between the two largest logits is "
        f"{probed.gap:.3g}. {compared.detail}"
    )
    is_found = probed.saturated > LARGEST_SHARE
    passed = False if is_found else compared.passed
    return dataclasses.replace(compared, passed=passed, detail=detail)


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

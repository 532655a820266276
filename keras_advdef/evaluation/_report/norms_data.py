"""Builds what a report says about several norms."""

from typing import Any

import numpy as np

from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation._report.findings import Findings
from keras_advdef.evaluation._report.report_data import outcome
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._verdict.headline import is_robust_accuracy, listed
from keras_advdef.evaluation._verdict.held_norms import held_norms
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate

_Evaluated = list[tuple[Request, Findings]]


def norms_data(evaluated: _Evaluated) -> dict[str, Any]:
    """Returns the JSON values "norms" and "union".

    Args:
        evaluated: The request and the measurements for each norm, the main one first.
    """
    union = AccuracyEstimate.of_wrong(
        _under_any([findings for _, findings in evaluated])
    )
    names = listed([_ball(request) for request, _ in evaluated])
    finding = f"Under the worst of {names} for each image, accuracy is {union}."
    said = _held(evaluated)
    return {
        "norms": [_entry(request, findings) for request, findings in evaluated],
        "union": {
            **union.to_json(),
            "finding": f"{said} {finding}" if said else finding,
        },
    }


def _entry(request: Request, findings: Findings) -> dict[str, Any]:
    found = outcome(request, findings)
    return {
        "norm": request.norm,
        "epsilon": request.epsilon,
        **{key: found[key] for key in ("clean", "adaptive", "headline")},
        "masking_suspected": found["masking_suspected"],
        "failed_checks": [
            check.name for check in findings.checks if check.passed is False
        ],
        "attacks": findings.records,
    }


def _ball(request: Request) -> str:
    label = epsilon_label(request.epsilon, request.norm, request.value_range)
    return f"{request.norm} {label}"


def _under_any(findings: list[Findings]) -> np.ndarray:
    """Returns each image's share of misclassified draws under its worst norm.

    The worst norm is chosen by the draws that chose the images: the largest of several
    shares on the fresh draws would overstate the success.
    """
    worst = np.argmax([each.chosen for each in findings], axis=0)
    shares = np.stack([each.measured.adaptive.mean(axis=0) for each in findings])
    return shares[worst, np.arange(len(worst))]


def _held(evaluated: _Evaluated) -> str:
    """Says so if the model withstands only some of the norms."""
    shares = [findings.measured.adaptive.mean(axis=0) for _, findings in evaluated]
    held = held_norms(shares)
    if held is None:
        return ""
    kept = [each for each, holds in zip(evaluated, held, strict=True) if holds]
    if any(outcome(*each)["masking_suspected"] for each in kept):
        # What seems to be left there may not be.
        return ""
    is_robust = all(
        is_robust_accuracy(request, findings.plan, findings.checks)
        for request, findings in kept
    )
    falls = ", ".join(
        f"under {_ball(request)} {'it' if not is_robust else 'accuracy'} falls to "
        f"{100 * (1 - share.mean()):.1f} %"
        for (request, _), share, holds in zip(evaluated, shares, held, strict=True)
        if not holds
    )
    where = listed([request.norm for request, _ in kept])
    return f"{'Robust' if is_robust else 'Accuracy is left'} in {where} only: {falls}."

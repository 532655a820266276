"""Builds the contents of `report.json` from an evaluation's findings."""

import contextlib
import datetime
import shlex
import sys
from typing import Any

import keras
import numpy as np

from keras_advdef.core.text import printable
from keras_advdef.core.versions import versions
from keras_advdef.evaluation._measure.defence_costs import (
    inference_time,
    measure_defence_costs,
    parameter_count,
)
from keras_advdef.evaluation._report.findings import Findings
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._verdict.headline import headline, is_robust_accuracy
from keras_advdef.evaluation._verdict.judgements import Judgements
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.better_than_chance import is_at_chance


def report_data(request: Request, findings: Findings) -> dict[str, Any]:
    """Returns the JSON values that are the same for equal runs.

    Args:
        request: The checked arguments.
        findings: The measurements.
    """
    attacked = findings.measured.adaptive.mean(axis=0)
    return {
        **outcome(request, findings),
        "interval_method": "clopper-pearson",
        "checks": [check.to_json() for check in findings.checks],
        "curve": findings.measured.curve.to_json(),
        "certified": findings.measured.certified
        and findings.measured.certified.to_json(),
        "corruptions": findings.measured.corrupted
        and findings.measured.corrupted.to_json(),
        "per_class": _per_class(
            findings.labels, {"clean": findings.clean, "adaptive": attacked}
        ),
        "attacks": findings.records,
        "skipped": [vars(skipped) for skipped in findings.plan.skipped],
        "defences": list(request.evaluated.cards),
        "duties": measure_defence_costs(
            request,
            labels=findings.labels,
            correct=findings.clean == 0,
            curve=findings.measured.curve,
            smallest=findings.measured.smallest,
        ),
        "class_names": request.class_names and list(request.class_names),
        "images": {"evaluated": request.count, "given": request.given},
        "seed": request.seed,
        "epsilon": request.epsilon,
        "norm": request.norm,
        "value_range": list(request.value_range),
        "budget": request.budget.name,
        "precision": request.precision,
        "versions": versions(),
    }


def outcome(request: Request, findings: Findings) -> dict[str, Any]:
    """Returns the headline and the accuracies under one norm.

    Args:
        request: The checked arguments, with this norm.
        findings: The measurements.
    """
    names = [record["name"] for record in findings.records]
    clean = AccuracyEstimate.of_wrong(findings.clean)
    judged = Judgements(findings.measured.adaptive)
    is_random, within = judged.draws > 1, findings.measured.within
    return {
        "headline": headline(
            request,
            findings.plan,
            findings.checks,
            clean=clean,
            adaptive=judged.mean,
            judged=judged if is_random else None,
            certified=None if within is None else within.estimate,
        ),
        "is_robust_accuracy": is_robust_accuracy(
            request, findings.plan, findings.checks
        ),
        "masking_suspected": not is_at_chance(findings.checks)
        and any(check.passed is False for check in findings.checks),
        "clean": {**clean.to_json(), "attacks": []},
        "naive": {
            **AccuracyEstimate.of_wrong(findings.naive).to_json(),
            "attacks": [findings.plan.naive.label],
        },
        "adaptive": {
            **judged.mean.to_json(),
            "attacks": names,
            **({"judgements": judged.to_json()} if is_random else {}),
        },
        "certified_accuracy": within and within.to_json(),
    }


def run_facts(
    request: Request,
    findings: Findings,
    *,
    identity: dict[str, Any],
    started: datetime.datetime,
    traces: int,
) -> dict[str, Any]:
    """Returns the values under "run", which differ between equal runs.

    Args:
        request: The checked arguments.
        findings: The measurements.
        identity: Identifies the evaluation.
        started: Start time.
        traces: Functions traced since then, in this process.
    """
    now = datetime.datetime.now(datetime.UTC)
    seconds = {key: round(took, 2) for key, took in findings.seconds.items()}
    stages = findings.plan.stages
    return {
        "command": printable(shlex.join(sys.argv)),
        "identity": identity,
        "model": _model(request.evaluated),
        "reference": request.reference and _model(request.reference),
        "data": {"name": request.data_name, "shape": list(request.images.shape[1:])},
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((now - started).total_seconds(), 2),
        "seconds_by_stage": seconds,
        "traces": traces,
        "passes_per_image": {s.key: s.passes(findings.classes) for s in stages},
        "inference": inference_time(request),
        "peak_memory_mib": _peak_memory(),
    }


def _model(evaluated: EvaluatedModel) -> dict[str, Any]:
    model = evaluated.model
    is_keras = isinstance(model, keras.Model)
    return {
        "name": evaluated.name,
        "parameters": parameter_count(model) if is_keras else None,
    }


def _per_class(
    labels: np.ndarray, wrong: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    rows = []
    for label in np.unique(labels):
        mine = labels == label
        values = {
            key: AccuracyEstimate.of_wrong(each[mine]).to_json()
            for key, each in wrong.items()
        }
        rows.append({"class": int(label), "count": int(mine.sum()), **values})
    return rows


def _peak_memory() -> float | None:
    with contextlib.suppress(ImportError):  # no such module on Windows
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # macOS counts in bytes, Linux in KiB.
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
    return None

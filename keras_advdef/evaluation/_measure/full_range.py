"""stand_without_bounds: accuracy when an attack may set every pixel to any value."""

import numpy as np

from keras_advdef.attacks.pgd import PGD
from keras_advdef.evaluation._measure.robustness_curve import curve_settings
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.runner import Runner
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate

KEY = "full-range"
STEPS = 20


def unbounded_stage(request: Request, probed: ProbeResult) -> Stage:
    """Returns the attack, which starts at the image: elsewhere, noise is enough.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
    """
    attack = PGD(
        request.epsilon,
        steps=STEPS,
        random_start=False,
        **curve_settings(request, probed),
    )
    return Stage(
        key=KEY,
        label=f"{attack} without bounds",
        role="curve",
        attack=attack,
        view=probed.adaptive,
        epsilon=request.full_range,
    )


def stand_without_bounds(
    request: Request, probed: ProbeResult, runner: Runner
) -> AccuracyEstimate:
    """Returns how many of the first images that are right withstand any change.

    The attack alone counts: what other attacks broke says nothing of its gradients.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
        runner: Runs the attack.
    """
    first = np.arange(min(request.count, request.budget.checked))
    rows = first[runner.clean.wrong[first] <= runner.draws / 2]
    if not len(rows):
        return AccuracyEstimate(0, 0)
    found = runner.run(unbounded_stage(request, probed), rows)
    return AccuracyEstimate(int((found["wrong"] <= runner.draws / 2).sum()), len(rows))

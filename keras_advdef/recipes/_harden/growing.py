"""Lets epsilon grow at first."""

import keras

from keras_advdef.callbacks.perturbation_schedule import PerturbationSchedule
from keras_advdef.recipes._harden.plan import Plan
from keras_advdef.recipes._harden.request import Request
from keras_advdef.training import AdversarialTrainingModel

# From which to which share of the steps epsilon grows; for certificates, training
# begins with clean images alone.
_ATTACKED, _CERTIFIED = (0.0, 0.2), (0.1, 0.6)


def growing(
    request: Request, model: AdversarialTrainingModel, *, plan: Plan, steps: int
) -> list[keras.callbacks.Callback]:
    """Returns what moves epsilon, and the share of the clean loss if there is one.

    Args:
        request: What was asked for.
        model: The training model.
        plan: How many epochs there are, which may change.
        steps: Steps of an epoch.
    """
    begin, end = _CERTIFIED if request.is_certified else _ATTACKED
    # Of a resumed run, the weight `epsilon` is that of the last step.
    own = model.objective.scheduled().get("epsilon")
    full = request.epsilon if own is None else own

    def share(step: int) -> float:
        total = plan.epochs * steps
        taken = max(1, int((end - begin) * total))
        return min(1.0, max(0.0, (step + 1 - int(begin * total)) / taken))

    grown = [PerturbationSchedule(lambda step: full * share(step))]
    if request.is_certified:
        fallen = PerturbationSchedule(
            lambda step: 1.0 - 0.5 * share(step), weight="kappa"
        )
        grown.append(fallen)
    return grown

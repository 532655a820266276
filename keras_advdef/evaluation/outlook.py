"""Outlook: what the stages of an evaluation are expected to cost."""

from keras_advdef.attacks.pgd import PGD
from keras_advdef.evaluation.forecast import FORWARD, Work, stage_work
from keras_advdef.evaluation.nearest import nearest_attack
from keras_advdef.evaluation.plan import Plan
from keras_advdef.evaluation.request import Request
from keras_advdef.evaluation.robustness_curve import CURVE_STEPS, curve_epsilons
from keras_advdef.evaluation.runner import Runner
from keras_advdef.evaluation.stage import passes_of
from keras_advdef.evaluation.traits import Traits
from keras_advdef.models import SmoothedClassifier

# As long as no attack has shown it.
_BROKEN = 0.5
# Stages of the curve share their compiled functions, but for the sizes of their blocks.
_CURVE_COMPILES = 0.25
# Drawing the report, beside.
_REPORT_COMPILES = 0.4
# Draws of a smoothed classifier's certificate.
_CERTIFIED_DRAWS = 1100


class Outlook:
    """Expects of the stages ahead what the stages behind have shown.

    Args:
        request: The checked arguments.
        traits: What the model turned out to be.
        plan: The stages.
        runner: Has run some of them.
    """

    def __init__(
        self, request: Request, traits: Traits, *, plan: Plan, runner: Runner
    ) -> None:
        self._request = request
        self._traits = traits
        self._plan = plan
        self._runner = runner

    def __call__(self) -> dict[str, Work]:
        """Returns the expected work of every stage, by its key."""
        runner, plan = self._runner, self._plan
        right = runner.clean_wrong < runner.draws
        count, standing = int(right.sum()), len(runner.standing)
        share = 1.0 - standing / max(count, 1)
        if plan.naive.key not in runner.seconds:
            share = _BROKEN
        checked = int(right[: self._request.budget.checked].sum())
        classes, draws = self._traits.classes, runner.draws
        works = {
            plan.naive.key: stage_work(
                plan.naive, count, classes, broken=share, judged=draws
            )
        }
        for stage in plan.checks.values():
            works[stage.key] = stage_work(
                stage, checked, classes, broken=share, judged=draws
            )
        for stage in plan.adaptive:
            # What has stood so far will mostly go on to.
            works[stage.key] = stage_work(
                stage, (1.0 - share) * count, classes, broken=0.0, judged=draws
            )
        return {**works, **self._afterwards(checked, share)}

    def _afterwards(self, checked: int, share: float) -> dict[str, Work]:
        """The work of the curve, the smallest perturbations and the certificates."""
        request, draws = self._request, min(self._traits.draws, 20)
        each = passes_of(PGD(steps=CURVE_STEPS, eot_samples=draws), 0)
        works = {}
        for key, epsilon in curve_epsilons(request).items():
            # Smaller epsilons break fewer images; larger ones get what stands.
            left = 1.0 - share * (0.5 if epsilon < request.epsilon else 1.0)
            passes = each * checked * left * (1.0 - _BROKEN / 2)
            works[key] = Work(passes, _CURVE_COMPILES)
        works["report"] = Work(0.0, _REPORT_COMPILES)
        attack = nearest_attack(request, self._traits)
        if attack is not None:
            each = passes_of(attack, self._traits.classes)
            works["nearest"] = Work(float(each * min(checked, request.budget.nearest)))
        if isinstance(request.subject.model, SmoothedClassifier):
            works["certified"] = Work(FORWARD * _CERTIFIED_DRAWS * checked)
        return works

"""ExpectedWork: what the stages of an evaluation are expected to cost."""

from keras_advdef.attacks.pgd import PGD
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS, SEVERITIES
from keras_advdef.evaluation._measure.full_range import unbounded_stage
from keras_advdef.evaluation._measure.robustness_curve import (
    CURVE_STEPS,
    curve_epsilons,
)
from keras_advdef.evaluation._measure.smallest_perturbations import minimal_attacks
from keras_advdef.evaluation._plan.card_attacks import early_draws
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.forecast import FORWARD, SoFar, Work, stage_work
from keras_advdef.models import SmoothedClassifier

# Share of broken images, before the first attack has shown it.
_BROKEN = 0.5
# Stages of the curve share their compiled functions, except for other batch sizes.
_CURVE_COMPILES = 0.6
# On a random model, they average over draws and confirm each success, so they are
# larger functions; the naive attack does neither, so it is small by comparison.
_RANDOM_CURVE_COMPILES = 1.9
_RANDOM_NAIVE_COMPILES = 0.3
# The search for the smallest perturbations has the largest functions.
_SMALLEST_COMPILES = 2.0
# Importing matplotlib and drawing the figures.
_REPORT_SECONDS = 1.5
# Share of its steps that a larger epsilon needs to break an image.
_UNTIL_BROKEN = 0.5
# Seconds to corrupt one value of an image: a mean over all corruptions and sizes.
_CORRUPTING = 1e-7
# Draws for the certificate of a smoothed classifier.
_CERTIFIED_DRAWS = 1100


class ExpectedWork:
    """Estimates the work of all stages from what the finished ones have shown.

    Args:
        request: The checked arguments.
        probed: The probe's result.
        plan: The planned stages.
        draws: Draws on which each image is evaluated.
        is_written: Whether the report is written to a folder.
    """

    def __init__(
        self,
        request: Request,
        probed: ProbeResult,
        *,
        plan: Plan,
        draws: int,
        is_written: bool,
    ) -> None:
        self._request = request
        self._probed = probed
        self._plan = plan
        self._draws = draws
        self._is_written = is_written

    def __call__(self, so_far: SoFar) -> dict[str, Work]:
        """Returns the expected work of every stage, by its key.

        Args:
            so_far: What is known so far.
        """
        plan, count = self._plan, int(so_far.right.sum())
        share = 1.0 - so_far.unbroken / max(count, 1)
        if plan.naive.key not in so_far.ended:
            share = _BROKEN
        checked = int(so_far.right[: self._request.budget.checked].sum())
        classes, draws = self._probed.classes, self._draws
        naive = stage_work(plan.naive, count, classes, broken=share, judged=draws)
        if self._probed.is_random:
            naive = naive._replace(compiles=_RANDOM_NAIVE_COMPILES)
        works = {plan.naive.key: naive}
        for stage in plan.checks.values():
            works[stage.key] = stage_work(
                stage,
                checked if stage.images is None else min(checked, stage.images),
                classes,
                broken=share,
                judged=draws,
                slots=self._request.size,
            )
        for stage in plan.adaptive:
            # Images that are unbroken so far will mostly stay so.
            works[stage.key] = stage_work(
                stage, (1.0 - share) * count, classes, broken=0.0, judged=draws
            )
        return {**works, **self._afterwards(checked, share)}

    def _afterwards(self, checked: int, share: float) -> dict[str, Work]:
        """The work of the curve, the smallest perturbations and the certificates."""
        request, draws = self._request, min(self._probed.draws, 20)
        is_random = self._probed.is_random
        compiles = _RANDOM_CURVE_COMPILES if is_random else _CURVE_COMPILES
        attack = PGD(steps=CURVE_STEPS, eot_samples=draws, **early_draws(draws))
        each = max(attack.passes(0))
        works = {}
        for key, epsilon in curve_epsilons(request).items():
            # Smaller epsilons break few images. Larger ones attack the unbroken images
            # and break most of them.
            is_small = epsilon < request.epsilon
            left = 1.0 - share / 4 if is_small else (1.0 - share) * _UNTIL_BROKEN
            works[key] = Work(each * checked * left, compiles)
        unbounded = unbounded_stage(request, self._probed)
        works[unbounded.key] = Work(max(unbounded.attack.passes(0)) * checked, compiles)
        works["report"] = Work(0.0, 0.0, _REPORT_SECONDS if self._is_written else 0.0)
        nearest = minimal_attacks(request, self._probed)
        if nearest:
            classes = self._probed.classes
            each = sum(max(attack.passes(classes)) for attack in nearest)
            passes = float(each * min(checked, request.budget.searched))
            works["nearest"] = Work(passes, _SMALLEST_COMPILES * len(nearest))
        if isinstance(request.evaluated.model, SmoothedClassifier):
            works["certified"] = Work(FORWARD * _CERTIFIED_DRAWS * checked)
        return works | self._corrupted()

    def _corrupted(self) -> dict[str, Work]:
        """The work of the corruptions, all of which take about as long."""
        request = self._request
        if not request.corruptions:
            return {}
        images = request.count * len(SEVERITIES)
        seconds = _CORRUPTING * images * request.images[0].size
        each = Work(FORWARD * images, compiles=0.0, seconds=seconds)
        return {corruption_key(kind): each for kind in CORRUPTIONS}


def corruption_key(kind: str) -> str:
    """Returns the key of the stage that measures a corruption.

    Args:
        kind: Name of the corruption.
    """
    return f"corruption-{kind}"

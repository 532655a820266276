"""Has the strongest gradient attack converged, or would more effort break more?

After Pintor et al. 2022, "Indicators of attack failure", NeurIPS. If the loss still
rises over the last tenth of the steps, or another restart breaks more images, the
attack gets twice the steps and a new start, up to a bound. What it finds counts.
"""

import copy
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.progress import Progress
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.traced_function import TracedFunction
from keras_advdef.evaluation._plan.card_attacks import AWARE
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.judge import Judge, margins
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.evaluation._run.runner import Runner
from keras_advdef.evaluation._verdict.not_run import not_run
from keras_advdef.evaluation.check import Check

NAME = "attack_converged"
_REASON = "the attack has not converged, so more steps would break more images"
_IMAGES = {"quick": 50, "standard": 100, "full": 100}
_DOUBLINGS = 2
_LAST = 10
# The loss of an image still rises if it gained more than this share of its whole rise
# in the last tenth of the steps; on adversarially trained nets it gains up to 0.04.
_RISING = 0.05
# More steps follow if the loss of more than this share still rises, or if more than
# this share is newly broken.
_MOST_RISING = 0.1
_MOST_BROKEN = 0.03
_FEWEST = 3
# After the most steps, the check fails if the loss of more than this share still rises.
# In a rough loss, that of a fifth may do so forever, by luck, and nothing breaks.
_FAR_FROM_IT = 0.5
_not_run = functools.partial(not_run, NAME, _REASON)


class Effort(NamedTuple):
    """More steps of an attack, and how far they went.

    Attributes:
        stage: The attack with its steps.
        images: Number of images that it attacked.
        broken: Number of them that it broke.
        rising: Number of the others whose loss still rose at the end.
    """

    stage: Stage
    images: int
    broken: int
    rising: int

    def has_converged(self, most_rising: float = _MOST_RISING) -> bool:
        """Returns whether more of the same would hardly change anything.

        Args:
            most_rising: Share of the images whose loss may still rise.
        """
        left = self.images - self.broken
        is_rising = self.rising >= _FEWEST and self.rising > most_rising * left
        breaks = self.broken >= _FEWEST and self.broken > _MOST_BROKEN * self.images
        return not (is_rising or breaks)


class Convergence(NamedTuple):
    """The verdict, and the attacks that ran for it.

    Attributes:
        check: The verdict.
        efforts: The attacks with more and more steps; the first is a restart.
    """

    check: Check
    efforts: list[Effort]


def check_convergence(
    request: Request,
    plan: Plan,
    runner: Runner,
    *,
    labels: np.ndarray,
    ledger: Ledger,
    progress: Progress,
) -> Convergence:
    """Restarts the strongest gradient attack, with more steps while that helps.

    Args:
        request: The checked arguments.
        plan: The stages that have run.
        runner: Has run them; takes what is found.
        labels: Integer labels of all images.
        ledger: Stores the results.
        progress: Receives the progress.
    """
    stage = strongest(plan)
    if request.attacks is not None:
        return Convergence(_not_run("the attacks are not those of a budget"), [])
    if stage is None:
        return Convergence(_not_run("no attack of the budget follows a gradient"), [])
    first = runner.unbroken[: _IMAGES[request.budget.name]]
    if not len(first):
        detail = "The attacks left no image to try more steps on."
        check = Check(name=NAME, passed=True, detail=detail, reason=_REASON)
        return Convergence(check, [])
    efforts: list[Effort] = []
    for doubling in range(_DOUBLINGS + 1):
        rows = runner.unbroken if doubling else first
        if not len(rows):
            break
        longer = _longer(stage, doubling)
        progress.update(longer.label, left=len(rows), seconds=None)
        look = _Look(request, longer, judge=runner.judge, labels=labels)
        name = f"longer-{doubling}"
        attack = functools.partial(look.run, rows, name)
        found = ledger.part(name, attack, longer.label)
        before = len(runner.unbroken)
        runner.take(rows, found["images"], f"{name}-taken")
        unbroken = np.isin(rows, runner.unbroken)
        rising = int((found["rising"] & unbroken).sum())
        broken = before - len(runner.unbroken)
        efforts.append(Effort(longer, len(rows), broken, rising))
        if efforts[-1].has_converged():
            break
    return Convergence(_verdict(efforts), efforts)


def strongest(plan: Plan) -> Stage | None:
    """Returns the adaptive stage of the most gradient steps in one run, if any.

    Args:
        plan: The stages.
    """
    found: Stage | None = None
    most = 0
    for stage in plan.adaptive:
        attack = stage.attack
        if not isinstance(attack, GradientAttack) or isinstance(attack.loss, AWARE):
            continue
        follows = attack.looks_apart() and stage.view.has_gradient
        if follows and attack.steps > most:
            found, most = stage, attack.steps
    return found


def _longer(stage: Stage, doubling: int) -> Stage:
    """The stage with more steps, in one run."""
    attack: Any = stage.attack
    attack = attack.replace(steps=attack.steps * 2**doubling, restarts=1)
    text = f"{attack}, " + (
        "as fewer steps had not converged" if doubling else "restarted"
    )
    return dataclasses.replace(
        stage, key=f"longer-{doubling}", label=text, attack=attack
    )


class _Look:
    """Runs an attack, and looks at it before the last tenth of its steps and after.

    Args:
        request: The checked arguments.
        stage: The attack.
        judge: Runs the model.
        labels: Integer labels of all images.
    """

    def __init__(
        self, request: Request, stage: Stage, *, judge: Judge, labels: np.ndarray
    ) -> None:
        self._request = request
        self._stage = stage
        self._judge = judge
        self._labels = labels

    def run(self, rows: np.ndarray, name: str) -> Arrays:
        """Attacks images.

        Args:
            rows: Indices of the images.
            name: Of the part, which fixes the draws.

        Returns:
            `images`, the attacked images, and `rising`, whether the loss of each rose
            much over the last tenth of the steps.
        """
        size = min(self._request.size, len(rows))
        function = TracedFunction(self._crafted)
        images, rising = [], []
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            full = pad_rows(block, size)
            clean = tf.constant(self._request.images[full], tf.float32)
            seed = derived_seed(self._request.seed, name, start)
            given = (clean, tf.constant(self._labels[full]))
            points = [each.numpy() for each in function(given, make_key(seed))]
            losses = [
                self._losses(each, full, seed) for each in (clean.numpy(), *points)
            ]
            begin, late, end = losses
            risen = (end - late > _RISING * (end - begin)) & (end > begin)
            images.append(points[1][: len(block)])
            rising.append(risen[: len(block)])
        return {"images": np.concatenate(images), "rising": np.concatenate(rising)}

    def _crafted(
        self, given: tuple[tf.Tensor, tf.Tensor], key: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The strongest points before the last tenth of the steps, and after."""
        images, labels = given
        attack: Any = copy.copy(self._stage.attack)
        # The last steps are few, but each takes as long to trace as all.
        attack.unroll = False
        logits_fn = attack.logits_function(self._stage.view)
        radius = attack.radius(self._request.epsilon)
        unit = attack.value_range.to_unit(images)
        run = tf.constant(0)
        state = attack.init_state(logits_fn, unit, labels, radius, key, run)
        last = math.ceil(attack.steps / _LAST)
        early = attack.steps - last
        state = attack.repeat(logits_fn, state, radius, key, early)
        late = attack.evaluate(logits_fn, state, key)["best"]
        state = attack.repeat(logits_fn, state, radius, key, last, early)
        end = attack.evaluate(logits_fn, state, key)["best"]
        pixels = attack.value_range.pixels_of
        return pixels(late), pixels(end)

    def _losses(self, images: np.ndarray, rows: np.ndarray, seed: int) -> np.ndarray:
        """Minus the logit margin, which all losses of attacks raise, `(count,)`."""
        return margins(self._judge.logits(images, seed), self._labels[rows])


def _verdict(efforts: list[Effort]) -> Check:
    last = efforts[-1]
    sentences = [
        f"{each.stage.label}, on {each.images} images, broke {each.broken}; the loss "
        f"of {each.rising} still rose by more than {100 * _RISING:.0f} % of its rise "
        "over the last tenth of the steps."
        for each in efforts
    ]
    if not last.has_converged():
        sentences.append("That is the most that is tried.")
    elif len(efforts) > 1:
        sentences.append("More steps would not change much.")
    passed = last.has_converged(_FAR_FROM_IT)
    return Check(name=NAME, passed=passed, detail=" ".join(sentences), reason=_REASON)

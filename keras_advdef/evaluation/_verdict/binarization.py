"""The binarization test: do the attacks find a perturbation that certainly exists?

After Zimmermann et al. 2022, "Increasing confidence in adversarial robustness
evaluations", NeurIPS. For each of some images, a linear classifier on the model's
features separates points of the ball from one of its corners. An attack that cannot
find its way to that side of a model is no evidence that there is none.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.square import Square
from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.progress import Progress
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.traced_function import TracedFunction
from keras_advdef.evaluation._plan.card_attacks import AWARE
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.evaluation._verdict.not_run import not_run
from keras_advdef.evaluation._verdict.planted_model import FeatureModel, PlantedModel
from keras_advdef.evaluation._verdict.planted_points import (
    CORNERS,
    INNER,
    Planted,
    draw_points,
    plant,
)
from keras_advdef.evaluation.check import Check

NAME = "attacks_find_planted_perturbation"
_REASON = (
    "the attacks used are not able to break this model where a perturbation exists by "
    "construction"
)
_IMAGES = {"quick": 16, "standard": 50, "full": 50}
# Attacks that find this share of the planted perturbations are adequate.
_ADEQUATE = 0.95
# A smaller share counts only if adequate attacks would seldom find as few.
_CHANCE = 0.01
# With more of the random points on the corner's side, finding it shows nothing.
_EASY = 0.05
# Fewer planted perturbations decide nothing.
_FEWEST = 5
# Draws of a random model that its features are the mean of.
_FEATURE_DRAWS = 5
_LABEL = "planted perturbations"
_not_run = functools.partial(not_run, NAME, _REASON)


def check_binarization(
    request: Request,
    probed: ProbeResult,
    plan: Plan,
    *,
    ledger: Ledger,
    progress: Progress,
) -> Check:
    """Plants a perturbation in the ball of each of some images, and looks for them.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
        plan: The stages, whose attacks look for them.
        ledger: Stores the result.
        progress: Receives the progress.
    """
    if request.attacks is not None:
        return _not_run("the attacks are not those of a budget")
    attacks = _attacks(plan, probed)
    if not attacks:
        return _not_run("none of the attacks can be aimed at other classifiers")
    test = _Test(request, probed, attacks)
    progress.update(_LABEL, left=test.count, seconds=None)
    found = ledger.part("planted", test.run, _LABEL)
    return _verdict(found, test.features.without_features, attacks)


def _attacks(plan: Plan, probed: ProbeResult) -> list[Attack]:
    """The attacks of the report that look at images one by one, in their order."""
    found: dict[str, Attack] = {}
    for stage in plan.adaptive:
        attack = stage.attack
        if isinstance(attack, GradientAttack) and attack.looks_apart():
            if isinstance(attack.loss, AWARE) or not probed.has_gradient:
                continue
            # Other losses are those of three classes and more.
            loss = "cross_entropy" if attack.loss == "cross_entropy" else "margin"
            attack = attack.replace(loss=loss, precision="float32")
        elif not isinstance(attack, Square):
            continue
        found.setdefault(repr(attack), attack)
    return list(found.values())


class _Test:
    """Plants the perturbations and attacks them.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
        attacks: The attacks, in order.
    """

    def __init__(
        self, request: Request, probed: ProbeResult, attacks: Sequence[Attack]
    ) -> None:
        self._request = request
        self._probed = probed
        self._attacks = attacks
        self.features = FeatureModel(probed.adaptive.model)
        self.count = min(request.count, _IMAGES[request.budget.name])
        self._size = min(request.size, self.count)

    def run(self) -> Arrays:
        """Returns what was planted, and which attack found it.

        Returns:
            `is_planted`, whether a perturbation stands apart and is not found by
            chance; `by_chance`, the share of random points that are like it; and
            `found_by`, the number of the attack that found it, or -1; each `(count,)`.
        """
        planted = self._plant()
        is_planted = np.array([p.is_apart and p.by_chance < _EASY for p in planted])
        found_by = np.full(self.count, -1)
        model = PlantedModel(
            self.features, size=self._size, width=len(planted[0].slope)
        )
        judge = self._judge(model, self._size)
        for number, attack in enumerate(self._attacks):
            function = TracedFunction(functools.partial(self._craft, (attack, model)))
            left = np.flatnonzero(is_planted & (found_by < 0))
            for start in range(0, len(left), self._size):
                rows = left[start : start + self._size]
                full = pad_rows(rows, self._size)
                model.plant(
                    np.stack([planted[row].slope for row in full]),
                    np.array([planted[row].offset for row in full]),
                )
                seed = derived_seed(self._request.seed, "planted", number, start)
                images = tf.constant(self._request.images[full], tf.float32)
                crafted = function(images, make_key(seed)).numpy()
                draws = self._request.judgements
                values = self._mean(judge, crafted, seed=seed, draws=draws)[:, 1]
                found_by[rows[values[: len(rows)] > 0.0]] = number
        by_chance = np.array([each.by_chance for each in planted])
        return {"is_planted": is_planted, "by_chance": by_chance, "found_by": found_by}

    def _craft(
        self, pair: tuple[Attack, PlantedModel], images: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Attacks a batch, in its order."""
        attack, model = pair
        labels = tf.zeros(tf.shape(images)[:1], tf.int64)
        epsilon = self._request.epsilon
        return attack(self._view(model), images, labels, epsilon=epsilon, seed=key)

    def _plant(self) -> list[Planted]:
        """Plants a perturbation for each image."""
        request = self._request
        judge = self._judge(self.features, self._request.batch_size)
        found = []
        for row, image in enumerate(request.images[: self.count]):
            seed = derived_seed(request.seed, "plant", row)
            points = draw_points(
                image,
                epsilon=request.epsilon,
                norm=request.norm,
                pixels=request.value_range,
                seed=seed,
            )
            features = self._mean(judge, points, seed=seed, draws=_FEATURE_DRAWS)
            again = None
            if self._probed.is_random:
                corners = points[INNER : INNER + CORNERS]
                other, draws = derived_seed(seed, "again"), request.judgements
                again = self._mean(judge, corners, seed=other, draws=draws)
            found.append(plant(features, again))
        return found

    def _view(self, model: Any) -> Any:
        # The planted classifiers have no large logits that a temperature must undo.
        return dataclasses.replace(self._probed.adaptive, model=model, temperature=1.0)

    def _judge(self, model: Any, size: int) -> Judge:
        return Judge(
            self._view(model), value_range=self._request.value_range, batch_size=size
        )

    def _mean(
        self, judge: Judge, images: np.ndarray, *, seed: int, draws: int
    ) -> np.ndarray:
        """The outputs for images; of a random model, their mean over draws."""
        count = draws if self._probed.is_random else 1
        runs = [judge.logits(images, derived_seed(seed, draw)) for draw in range(count)]
        return np.mean(runs, axis=0)


def _verdict(found: Arrays, without_features: str, attacks: Sequence[Attack]) -> Check:
    from scipy.stats import binom

    is_planted, found_by = found["is_planted"], found["found_by"]
    planted = int(is_planted.sum())
    if planted < _FEWEST:
        return _not_run(
            f"a perturbation could be planted for {planted} of {len(is_planted)} "
            f"images only, and {_FEWEST} are needed",
        )
    hits = int((is_planted & (found_by >= 0)).sum())
    is_adequate = hits >= _ADEQUATE * planted
    is_adequate |= bool(binom.cdf(hits, planted, _ADEQUATE) >= _CHANCE)
    by_attack = [int((found_by == index).sum()) for index in range(len(attacks))]
    names = ", ".join(
        f"{attack} {number}"
        for attack, number in zip(attacks, by_attack, strict=True)
        if number
    )
    chance = 100 * float(found["by_chance"][is_planted].mean())
    where = (
        f"the logits ({without_features})" if without_features else "the last features"
    )
    detail = (
        f"In {planted} balls a linear classifier on {where} was made to have an "
        f"adversarial image. The attacks found {hits} of them"
        + (f" ({names})" if names else "")
        + f"; {chance:.1f} % of random images are one. Adequate attacks find "
        f"{100 * _ADEQUATE:.0f} %."
    )
    return Check(name=NAME, passed=is_adequate, detail=detail, reason=_REASON)

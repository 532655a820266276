"""RobustnessCurve: accuracy against epsilon."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_advdef.attacks.pgd import PGD
from keras_advdef.evaluation._plan.card_attacks import early_draws
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.runner import Runner
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate

CURVE_STEPS = 20
_DRAWS = 20
# An image that fools a random model in this share of its draws is attacked no more.
_BROKEN = 0.9
_FACTORS = (0.125, 0.25, 0.5, 0.75, 1.5, 2.0, 4.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RobustnessCurve:
    """Accuracies on the first images at several epsilons.

    Attributes:
        epsilons: In increasing order from 0; one is the evaluation's epsilon.
        estimates: One for each epsilon.
        attack: Name of the attack at the other epsilons, for readers.
    """

    epsilons: tuple[float, ...]
    estimates: tuple[AccuracyEstimate, ...]
    attack: str

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the points as JSON values."""
        points = zip(self.epsilons, self.estimates, strict=True)
        return [{"epsilon": epsilon, **each.to_json()} for epsilon, each in points]


def measure_curve(
    request: Request,
    probed: ProbeResult,
    runner: Runner,
    *,
    nearest: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[RobustnessCurve, np.ndarray]:
    """Measures the curve; an image broken at one epsilon is broken at all larger ones.

    For a random model the accuracies are means over draws. At the evaluation's epsilon
    they are those that the report states, on the first images.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
        runner: Runs the attacks; has run those at the evaluation's epsilon.
        nearest: Indices of images and the smallest norms known to break them; such
            images count as broken from there on, and are not attacked again.

    Returns:
        The curve; and which of all images the worst case at the evaluation's epsilon
        misclassifies in each fresh draw, `(draws, count)`.
    """
    rows = np.arange(min(request.count, request.budget.checked))
    settings = curve_settings(request, probed)
    attack = PGD(request.epsilon, steps=CURVE_STEPS, **settings)
    # The share of draws in which each image is misclassified.
    wrong = runner.clean.wrong[rows] / runner.draws
    largest = request.full_range

    def stand_against(index: int, epsilon: float) -> None:
        left = np.flatnonzero(wrong < _BROKEN)
        stage = Stage(
            key=_key(index),
            label=f"{attack}, epsilon {epsilon:.4g}",
            role="curve",
            attack=attack,
            view=probed.adaptive,
            epsilon=epsilon,
        )
        found = runner.run(stage, rows[left])["wrong"] / runner.draws
        wrong[left] = np.maximum(wrong[left], found)

    shares = {}
    for index, epsilon in enumerate(_epsilons(request, largest)):
        if epsilon == request.epsilon:
            attacked = runner.evaluate_worst("all")
            wrong = attacked[:, rows].mean(axis=0)
        elif epsilon:
            wrong[_within(epsilon, nearest, len(rows))] = 1.0
            stand_against(index, epsilon)
        shares[epsilon] = wrong.copy()
    curve = RobustnessCurve(
        epsilons=tuple(shares),
        estimates=tuple(_estimates(shares, request.epsilon, attacked[:, rows])),
        attack=str(attack),
    )
    return curve, attacked


def _within(
    epsilon: float, nearest: tuple[np.ndarray, np.ndarray] | None, count: int
) -> np.ndarray:
    """Returns which of the first images are known to break within an epsilon."""
    if nearest is None:
        return np.zeros(0, int)
    rows, norms = nearest
    return rows[(norms <= epsilon) & (rows < count)]


def _estimates(
    shares: dict[float, np.ndarray], at: float, attacked: np.ndarray
) -> Iterator[AccuracyEstimate]:
    """Yields the accuracy at each epsilon from the misclassified shares of draws."""
    for epsilon, share in shares.items():
        if epsilon == at:
            yield AccuracyEstimate.over_draws(attacked)
        else:
            # Luckier draws must not make a smaller ball look worse than a larger one.
            wrong = np.minimum(share, shares[at]) if 0.0 < epsilon < at else share
            yield AccuracyEstimate.of_wrong(wrong)


def curve_settings(request: Request, probed: ProbeResult) -> dict[str, Any]:
    """Returns the arguments of the attacks at other epsilons.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
    """
    draws = min(probed.draws, _DRAWS)
    return {
        "norm": request.norm,
        "precision": request.precision,
        "value_range": tuple(request.value_range),
        "eot_samples": draws,
        **early_draws(draws),
    }


def curve_epsilons(request: Request) -> dict[str, float]:
    """Returns the epsilon of each stage that `measure_curve` will run, by key.

    Args:
        request: The checked arguments.
    """
    epsilons = _epsilons(request, request.full_range)
    return {
        _key(index): epsilon
        for index, epsilon in enumerate(epsilons)
        if epsilon not in (0.0, request.epsilon)
    }


def _key(index: int) -> str:
    return f"curve-{index:02d}"


def _epsilons(request: Request, largest: float) -> tuple[float, ...]:
    chosen = request.curve
    if chosen is None:
        # Six digits keep 0.75 * 0.15 readable; the evaluation's own epsilon is exact.
        chosen = tuple(float(f"{f * request.epsilon:.6g}") for f in _FACTORS)
    return tuple(sorted({0.0, request.epsilon, *(e for e in chosen if e <= largest)}))

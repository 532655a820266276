"""closing_attacks: what is tried on a model of which a check has failed."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.spsa import SPSA
from keras_advdef.attacks.transfer import Transfer
from keras_advdef.evaluation._plan.card_attacks import Target
from keras_advdef.evaluation._plan.eight_bit import OnEightBit, is_eight_bit
from keras_advdef.evaluation._plan.misleading_layers import misleading_layers

EIGHT_BIT = "eight-bit"
_QUERIES = 5000
_JUMPS = 20
# Estimates of 64 pairs: some 2600 forward passes for an image.
_STEPS, _PAIRS = 20, 64
_RESTARTS = 5
_CRAFTING_STEPS = 50
# Checks whose failure says that gradients lead astray or nowhere.
_OF_GRADIENTS = {
    "true_gradients",
    "attacks_find_planted_perturbation",
    "smooth_loss",
    "input_gradients",
    "saturated_logits",
}


def closing_attacks(
    target: Target, sources: Sequence[Any], *, number: int, failed: Collection[str]
) -> list[Attack]:
    """Returns attacks that need no gradient of the model, the cheapest first.

    Args:
        target: The model under attack and the settings.
        sources: Models to transfer images from.
        number: Number of such rounds before; later ones only draw anew.
        failed: Names of the checks that have failed.
    """
    attacks: list[Attack] = []
    if number == 0:
        crafting = target.steep(_CRAFTING_STEPS, restarts=_RESTARTS)
        attacks += [Transfer(source, crafting) for source in sources]
    attacks += target.square(_QUERIES)
    if number == 0 and _OF_GRADIENTS & set(failed):
        delta = _delta(target)
        spsa = SPSA(steps=_STEPS, samples=_PAIRS, delta=delta, **target.settings)
        attacks.append(spsa)
    return attacks + target.decisions(_JUMPS)


def closing_views(
    target: Target, *, number: int, failed: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Returns, by name, what a stage of PGD must change to get past what was found.

    Args:
        target: The model under attack and the settings.
        number: Number of such rounds before.
        failed: Names of the checks that have failed.
    """
    request, view = target.request, target.probed.adaptive
    changes: dict[str, dict[str, Any]] = {}
    if "finite_logits" in failed and is_eight_bit(request.images, request.value_range):
        rounded = OnEightBit(view.model, request.value_range)
        changes[EIGHT_BIT] = {"view": dataclasses.replace(view, model=rounded)}
    if number == 0 and "true_gradients" in failed:
        layers = misleading_layers(request, target.probed)
        if layers:
            passed = (*view.bpda_layers, *layers)
            changes["bpda"] = {"view": dataclasses.replace(view, bpda_layers=passed)}
    if number == 0 and "steady" in failed:
        changes["alone"] = {"alone": True}
    return changes


def _delta(target: Target) -> float:
    """How far SPSA's pairs lie apart: what a masked model still answers to."""
    request = target.request
    least, most = request.value_range.span / 256, request.value_range.span
    return min(max(0.5 * request.epsilon_per_value, least), most)

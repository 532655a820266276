"""CARD_ATTACKS: how each attack that a card names is made, and whether it ran."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.auto_attack import AutoAttack
from keras_advdef.attacks.carlini_wagner import CarliniWagner
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.latent_space_attack import LatentSpaceAttack, projection_of
from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.attacks.losses.member_dlr import MemberDLR
from keras_advdef.attacks.pgd import PGD
from keras_advdef.attacks.square import Square
from keras_advdef.attacks.transfer import Transfer
from keras_advdef.core.cards import DefenceCard, card_of
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.logits import LogitsModel
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.request import Request
from keras_advdef.models.feature_squeezing_detector import FeatureSqueezingDetector
from keras_advdef.models.squeezing_aware import SqueezingAware

BPDA = "BPDA"
NO_GRADIENT = "the model has no input gradient"
NO_SURROGATE = "no surrogate model was given"
# Losses that only cards ask for. Reports name them.
AWARE: tuple[type[AttackLoss], ...] = (SqueezingAware, MemberDLR)
# Draws over which all but the last steps of an attack average.
_EARLY_DRAWS = 4
# Decisions of one of HopSkipJump's estimates.
_DECISIONS = 300
# The DLR breaks what the naive attack on the cross-entropy leaves.
QUICK_APGD: dict[str, Any] = {"steps": 25, "loss": "dlr"}
# With more of these, an attack counts as the same attack, but stronger.
_MORE_IS_STRONGER = ("steps", "restarts", "eot_samples", "early_eot_samples")


@dataclasses.dataclass(frozen=True)
class Target:
    """The model under attack and the settings of the evaluation.

    Attributes:
        request: The checked arguments.
        probed: The probe's result.
    """

    request: Request
    probed: ProbeResult

    @property
    def model(self) -> Any:
        """The model: a Keras model, or any function from images to logits."""
        return self.probed.adaptive.model

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that all gradient attacks share."""
        request = self.request
        return {
            "epsilon": request.epsilon,
            "value_range": tuple(request.value_range),
            "norm": request.norm,
            "precision": request.precision,
        }

    @property
    def averaged(self) -> dict[str, Any]:
        """The same, with the EOT samples that the cards ask for."""
        return {**self.settings, "eot_samples": self.probed.draws}

    @property
    def stepped(self) -> dict[str, Any]:
        """The same for attacks of many gradient steps."""
        return {**self.averaged, **early_draws(self.probed.draws)}

    def steep(self, steps: int, **more: Any) -> Attack:
        """Returns PGD without EOT; APGD in l2 and l1, where plain steps are weak.

        Of 200 images in l2, PGD-20 left 43 % of an honest net where APGD-20 left 25 %,
        which looked like masking.

        Args:
            steps: Its steps.
            **more: Its other arguments.
        """
        kind = PGD if self.request.norm == "linf" else APGD
        return kind(steps=steps, **self.settings, **more)

    def square(self, queries: int) -> list[Attack]:
        """Returns the score-based attack, if there is one for the norm.

        Args:
            queries: Its queries.
        """
        settings = self.settings
        if settings["norm"] not in Square.norms:
            return []
        return [Square(queries=queries, **settings)]

    def decisions(self, steps: int) -> list[Attack]:
        """Returns the decision-based attack, if there is one for the norm.

        Args:
            steps: Its jumps.
        """
        settings = self.settings
        # It has no gradients to speed up.
        del settings["precision"]
        if settings["norm"] not in HopSkipJump.norms:
            return []
        return [HopSkipJump(steps=steps, max_evaluations=_DECISIONS, **settings)]


def early_draws(draws: int) -> dict[str, int]:
    """Returns the argument for fewer draws while an attack still moves.

    Args:
        draws: Draws over which its last steps average.

    Example:

    >>> from keras_advdef.evaluation._plan.card_attacks import early_draws
    >>> early_draws(1), early_draws(20)
    ({}, {'early_eot_samples': 4})
    """
    return {"early_eot_samples": _EARLY_DRAWS} if draws > _EARLY_DRAWS else {}


@dataclasses.dataclass(frozen=True)
class CardAttack:
    """An attack that cards may name.

    Attributes:
        make: Makes the attack, or all attacks that the name stands for.
        obstacle: Says why the attack cannot run on a model with input gradients, as
            half a sentence; "" if it can.
        is_past_layers: Whether its backward pass skips `layers_to_pass`.
    """

    make: Callable[[Target], list[Attack]]
    obstacle: Callable[[Target], str] = lambda target: ""
    is_past_layers: bool = False

    def reason(self, target: Target) -> str:
        """Says why the attack cannot run, as half a sentence; "" if it can.

        Args:
            target: The model under attack.
        """
        if not target.probed.has_gradient:
            return NO_GRADIENT
        return self.obstacle(target)

    def ran(self, stages: Iterable[Stage], target: Target) -> bool:
        """Returns whether stages include this attack, or a stronger version of it.

        Args:
            stages: Stages of a plan.
            target: The model under attack.
        """
        if self.reason(target):
            return False
        layers = set(layers_to_pass(target.model)) if self.is_past_layers else set()
        able = [s.attack for s in stages if layers <= set(s.view.bpda_layers)]
        return all(
            any(_covers(attack, wanted) for attack in able)
            for wanted in self.make(target)
        )


def _covers(attack: Attack, wanted: Attack) -> bool:
    """Whether an attack is the wanted one or a stronger version of it."""
    if isinstance(attack, Transfer) and isinstance(wanted, Transfer):
        return attack.surrogate is wanted.surrogate
    if type(attack) is not type(wanted):
        return False
    found = attack.get_config()
    return all(
        _reaches(found[name], value)
        if name in _MORE_IS_STRONGER
        else found[name] == value
        for name, value in wanted.get_config().items()
        # The runner passes epsilon to attacks without one.
        if name != "epsilon"
    )


def _reaches(found: int | None, wanted: int | None) -> bool:
    """Whether there is at least as much of something; `None` is all of it."""
    return found is None or (wanted is not None and found >= wanted)


def _pgd(**settings: Any) -> Callable[[Target], list[Attack]]:
    return lambda target: [PGD(**settings, **target.stepped)]


def _apgd(target: Target) -> list[Attack]:
    sizes = QUICK_APGD if target.request.budget.name == "quick" else {"steps": 100}
    return [APGD(**sizes, **target.stepped)]


def _auto_attack(target: Target) -> list[Attack]:
    version = "rand" if target.probed.is_random else "standard"
    attacks = AutoAttack(version=version, **target.settings).attacks
    return [each.replace(**early_draws(each.eot_samples)) for each in attacks]


def _carlini_wagner(target: Target) -> list[Attack]:
    settings = target.averaged
    if settings.pop("norm") == "l2":
        return [CarliniWagner(**settings)]
    # The attack is defined for l2 only; its loss works in every norm.
    return [PGD(steps=100, loss="margin", **target.stepped)]


def _latent_space(target: Target) -> list[Attack]:
    return [LatentSpaceAttack(**target.averaged)]


def _transfer(target: Target) -> list[Attack]:
    surrogate = target.request.surrogate
    if surrogate is None:
        return []
    return [Transfer(surrogate.model, PGD(steps=100, **target.settings))]


def _unless(what: str, is_met: Callable[[Target], bool]) -> Callable[[Target], str]:
    return lambda target: "" if is_met(target) else what


def _unless_exposed(
    what: str, is_exposed: Callable[[Target], bool]
) -> Callable[[Target], str]:
    return _unless(f"the model does not expose its {what}", is_exposed)


# In planning order.
CARD_ATTACKS = {
    "PGD": CardAttack(_pgd(steps=40)),
    "PGD-200": CardAttack(_pgd(steps=200)),
    "SqueezingAware": CardAttack(
        _pgd(steps=100, loss=SqueezingAware()),
        _unless_exposed(
            "detector",
            lambda target: isinstance(target.model, FeatureSqueezingDetector),
        ),
    ),
    "MemberDLR": CardAttack(
        _pgd(steps=200, loss=MemberDLR()),
        _unless_exposed(
            "ensemble", lambda target: isinstance(target.model, LogitsModel)
        ),
    ),
    "AutoAttack": CardAttack(
        _auto_attack,
        _unless(
            "it needs the standard or the full budget",
            lambda target: target.request.budget.name != "quick",
        ),
    ),
    "APGD": CardAttack(_apgd),
    "CarliniWagner": CardAttack(_carlini_wagner),
    "LatentSpaceAttack": CardAttack(
        _latent_space,
        _unless_exposed(
            "generator", lambda target: projection_of(target.model) is not None
        ),
    ),
    BPDA: CardAttack(
        _pgd(steps=40),
        _unless_exposed("layers", lambda target: bool(layers_to_pass(target.model))),
        is_past_layers=True,
    ),
    "transfer": CardAttack(
        _transfer,
        _unless(NO_SURROGATE, lambda target: target.request.surrogate is not None),
    ),
}


def named_attacks(cards: Iterable[DefenceCard]) -> dict[str, CardAttack | None]:
    """Returns the attacks that cards name, in planning order.

    Args:
        cards: The cards. The card in a SavedModel may come from another version of this
            package and name an attack that this version does not know.

    Returns:
        The attacks by name; `None` for an unknown one.

    Example:

    >>> from keras_advdef.core.cards import card_of
    >>> from keras_advdef.evaluation._plan.card_attacks import named_attacks
    >>> layer = keras_advdef.layers.StochasticActivationPruning
    >>> list(named_attacks([card_of(layer)]))
    ['PGD', 'APGD', 'BPDA']
    """
    names = {name for card in cards for name in card.attacks}
    known = [name for name in CARD_ATTACKS if name in names]
    unknown = sorted(names - CARD_ATTACKS.keys())
    return {name: CARD_ATTACKS.get(name) for name in known + unknown}


def layers_to_pass(model: Any) -> tuple[keras.layers.Layer, ...]:
    """Returns the layers whose cards ask for the identity in their backward pass.

    Args:
        model: A Keras model or a function.

    Returns:
        Layers, without the models that hold them, whose outputs are not images.

    Example:

    >>> from keras_advdef.evaluation._plan.card_attacks import layers_to_pass
    >>> layer = keras_advdef.layers.StochasticActivationPruning()
    >>> model = keras.Sequential([keras.layers.ReLU(), layer])
    >>> layers_to_pass(model) == (layer,)
    True
    """
    if not isinstance(model, keras.Model):
        return ()
    cards = {layer: card_of(layer) for layer in flat_layers(model)}
    return tuple(
        layer
        for layer, card in cards.items()
        if card and BPDA in card.attacks and not isinstance(layer, LogitsModel)
    )

"""card_attacks: what the cards of a model's defences ask an evaluation to run."""

from typing import Any

import keras

from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.latent_space_attack import LatentSpaceAttack, projection_of
from keras_advdef.attacks.losses.member_dlr import MemberDLR
from keras_advdef.attacks.pgd import PGD
from keras_advdef.core.cards import card_of
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.logits import LogitsModel
from keras_advdef.evaluation._plan.plan import Skipped
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.models.squeezing_aware import SqueezingAware

# Losses that cards name, and the steps of PGD on them.
AWARE = ((SqueezingAware(), 100), (MemberDLR(), 200))
# What cards say where an attack must skip the layer in its backward pass.
_BPDA = "BPDA"


def card_attacks(
    probed: ProbeResult, *, settings: dict[str, Any], budget: str, draws: int
) -> tuple[list[Attack], list[Skipped]]:
    """Returns what the cards ask for and the budget does not hold anyway.

    Args:
        probed: What the model turned out to be.
        settings: Arguments of every attack: epsilon, norm, precision and value range.
        budget: Name of the budget.
        draws: Draws over which the budget's own attacks average.

    Returns:
        The attacks, and what cannot be run, with the reason.

    Example:

    >>> from keras_advdef.evaluation._plan.card_attacks import card_attacks
    >>> from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel
    >>> from keras_advdef.evaluation._plan.probe_result import probe
    >>> model = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras_advdef.layers.BitDepthReduction(3),
    ...     keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> probed = probe(
    ...     EvaluatedModel.of(model), np.full((2, 4, 4, 1), 0.4), np.array([0, 1]),
    ...     seed=0, value_range=keras_advdef.core.value_range.ValueRange())
    >>> attacks, _ = card_attacks(
    ...     probed, settings={"epsilon": 0.1}, budget="quick", draws=1)
    >>> [str(attack) for attack in attacks]
    ['PGD-40']
    """
    names = {name for card in probed.cards.values() for name in card.attacks}
    every: dict[str, Any] = {"eot_samples": probed.draws, **settings}
    attacks: list[Attack] = []
    skipped = []
    if "PGD" in names:
        attacks.append(PGD(steps=40, **every))
    if "PGD-200" in names:
        attacks.append(PGD(steps=200, **every))
    for loss, steps in AWARE:
        if type(loss).__name__ in names:
            attacks.append(PGD(steps=steps, loss=loss, **every))
    if "APGD" in names and probed.draws > draws:
        attacks.append(APGD(steps=25 if budget == "quick" else 100, **every))
    if LatentSpaceAttack.__name__ in names:
        if projection_of(probed.adaptive.model) is None:
            reason = "the model does not expose its generator"
            skipped.append(Skipped(attack=LatentSpaceAttack.__name__, reason=reason))
        else:
            attacks.append(LatentSpaceAttack(**every))
    return attacks, skipped


def layers_to_pass(model: Any) -> tuple[keras.layers.Layer, ...]:
    """Returns the layers whose cards ask for the identity in their backward pass.

    Args:
        model: A Keras model or a function.

    Returns:
        Layers; models, whose outputs are no images, hold them.

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
        if card and _BPDA in card.attacks and not isinstance(layer, LogitsModel)
    )

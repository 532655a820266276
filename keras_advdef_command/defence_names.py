"""Finds the name of a defence's card by the names that users know."""

import difflib

from keras_advdef_command._names import DEFENCES, OTHERS
from keras_advdef_command.refusal import refusal

# Other public names that belong to a defence, with the name of its card.
_PARTS = {
    "AdversarialTrainingModel": "AdversarialCrossEntropy",
    "CatastrophicOverfittingGuard": "AdversarialCrossEntropy",
    "HardenedModel": "AdversarialCrossEntropy",
    "MixedImages": "AdversarialCrossEntropy",
    "PerturbationSchedule": "AdversarialCrossEntropy",
    "SwapAveragedWeights": "AdversarialCrossEntropy",
    "harden": "AdversarialCrossEntropy",
    "AdaptiveDiversity": "AdaptiveDiversityPromoting",
    "certify_cross_lipschitz": "CrossLipschitz",
    "LatentSpaceAttack": "DefenseGAN",
    "SampleGrid": "DefenseGAN",
    "WassersteinGAN": "DefenseGAN",
    "mnist_critic": "DefenseGAN",
    "mnist_generator": "DefenseGAN",
    "ConvexCombination": "Parseval",
    "ParsevalConv2D": "Parseval",
    "ProbabilitySimplex": "Parseval",
    "SingularValues": "Parseval",
    "check_weight_decay": "Parseval",
    "parseval_network": "Parseval",
    "SqueezingAware": "FeatureSqueezingDetector",
    "insert_noise": "RandomNoise",
    "insert_pruning": "StochasticActivationPruning",
    "split_activation": "StochasticActivationPruning",
    "KLAnnealing": "VariationalConv2D",
    "VariationalLayer": "VariationalConv2D",
    "set_kl_weight": "VariationalConv2D",
    "to_variational": "VariationalConv2D",
}
_OWNER = "keras-advdef defences"
_SUGGESTED = 3


def _key(name: str) -> str:
    """Returns a name without case, spaces and underscores, which people vary."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def card_name(name: str) -> str:
    """Returns the name of the card that a user means.

    Args:
        name: Public name of a defence or of a part of one. Case, spaces, hyphens and
            underscores do not matter.

    Raises:
        RefusedArgument: If it has no card; the message suggests similar names.

    Example:

    >>> from keras_advdef_command.defence_names import card_name
    >>> card_name("random-noise"), card_name("AdversarialTrainingModel")
    ('RandomNoise', 'AdversarialCrossEntropy')
    """
    leads = {_key(each): each for each in DEFENCES}
    leads |= {_key(part): card for part, card in _PARTS.items()}
    key = _key(name)
    if key in leads:
        return leads[key]
    rule = "the name of a defence"
    if key in {_key(each) for each in OTHERS}:
        advice = "This package has that name, but it is not a defence with a card."
        raise refusal("NAME", rule, name, advice=advice, owner=_OWNER)
    near = [other for other in leads if key and key in other]
    near += difflib.get_close_matches(key, leads, n=_SUGGESTED)
    known = {_key(each): each for each in (*DEFENCES, *_PARTS)}
    suggested = list(dict.fromkeys(known[each] for each in near))[:_SUGGESTED]
    advice = f"Did you mean {' or '.join(suggested)}? " if suggested else ""
    advice += "`keras-advdef defences` lists all."
    raise refusal("NAME", rule, name, advice=advice, owner=_OWNER)


def is_part(name: str, card: str) -> bool:
    """Returns whether a name is that of a part of a defence, not its own.

    Args:
        name: What the user typed.
        card: What `card_name` returned for it.

    Example:

    >>> from keras_advdef_command.defence_names import is_part
    >>> is_part("random-noise", "RandomNoise"), is_part("insert_noise", "RandomNoise")
    (False, True)
    """
    return _key(name) != _key(card)

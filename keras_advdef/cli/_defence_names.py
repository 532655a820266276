"""Leads from the names that users know of a defence to its card."""

import difflib

import keras_advdef
from keras_advdef.core.cards import all_cards
from keras_advdef.core.errors import invalid

# What else of the public names belongs to a defence, and whose card is its.
_PARTS = {
    "AdversarialTrainingModel": "AdversarialCrossEntropy",
    "PerturbationSchedule": "AdversarialCrossEntropy",
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
    """A name without what people write differently: case, spaces, underscores."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def card_name(name: str) -> str:
    """Returns the name of the card for a name that a user typed.

    Args:
        name: Public name of a defence or of a part of one, in any case, with or
            without spaces, hyphens and underscores.

    Raises:
        ValueError: If no card belongs to it; the message suggests names that are
            nearly it.

    Example:

    >>> from keras_advdef.cli._defence_names import card_name
    >>> card_name("random-noise"), card_name("AdversarialTrainingModel")
    ('RandomNoise', 'AdversarialCrossEntropy')
    """
    leads = {_key(each): each for each in all_cards()}
    leads |= {_key(part): card for part, card in _PARTS.items()}
    key = _key(name)
    if key in leads:
        return leads[key]
    rule = "the name of a defence"
    if key in {_key(each) for each in _public_names()}:
        advice = "That is part of this package, but no defence with a card."
        raise invalid(_OWNER, "NAME", rule, name, advice=advice)
    near = [other for other in leads if key and key in other]
    near += difflib.get_close_matches(key, leads, n=_SUGGESTED)
    known = {_key(each): each for each in (*all_cards(), *_PARTS)}
    suggested = list(dict.fromkeys(known[each] for each in near))[:_SUGGESTED]
    advice = f"Did you mean {' or '.join(suggested)}? " if suggested else ""
    advice += "`keras-advdef defences` lists all."
    raise invalid(_OWNER, "NAME", rule, name, advice=advice)


def is_part(name: str, card: str) -> bool:
    """Whether a name that leads to a card is that of a part of the defence.

    Args:
        name: What a user typed.
        card: What `card_name` returned for it.

    Example:

    >>> from keras_advdef.cli._defence_names import is_part
    >>> is_part("random-noise", "RandomNoise"), is_part("insert_noise", "RandomNoise")
    (False, True)
    """
    return _key(name) != _key(card)


def _public_names() -> list[str]:
    folders = (getattr(keras_advdef, folder) for folder in keras_advdef.__all__)
    return [name for folder in folders for name in getattr(folder, "__all__", ())]

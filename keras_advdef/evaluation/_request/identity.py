"""identity_of: the values that identify an evaluation."""

import json

import numpy as np

import keras_advdef
from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.transfer import Transfer
from keras_advdef.core.digest import array_digest
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel
from keras_advdef.evaluation._request.request import Request


def identity_of(request: Request) -> dict[str, object]:
    """Returns the values that two runs must share so that one can resume the other.

    Args:
        request: The checked arguments.
    """
    attacks = request.attacks
    return {
        "model": request.evaluated.fingerprint,
        "data": array_digest(request.images, np.asarray(request.labels)),
        "epsilon": request.epsilon,
        "norm": request.norm,
        "further norms": [list(ball) for ball in request.further],
        "value range": list(request.value_range),
        "budget": request.budget.name,
        "seed": request.seed,
        "judgements": request.judgements,
        "attacks": None if attacks is None else [_settings(each) for each in attacks],
        "reference": _fingerprint(request.reference),
        "surrogate": _fingerprint(request.surrogate),
        "curve": None if request.curve is None else list(request.curve),
        "corruptions": request.corruptions,
        "batch size": request.batch_size,
        "precision": request.precision,
        "version of keras_advdef": keras_advdef.__version__,
    }


def _settings(attack: Attack) -> str:
    """An attack's name and arguments, without object addresses."""
    if isinstance(attack, Transfer):
        source = EvaluatedModel.of(attack.surrogate).fingerprint
        return f"Transfer of {_settings(attack.attack)} from {source}"
    return type(attack).__name__ + json.dumps(attack.get_config(), default=str)


def _fingerprint(evaluated: EvaluatedModel | None) -> str | None:
    return None if evaluated is None else evaluated.fingerprint

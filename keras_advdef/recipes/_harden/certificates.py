"""What the recipe "certified" asks of a model, and what it measures."""

from collections.abc import Sequence

import keras

from keras_advdef.core.errors import invalid
from keras_advdef.core.interval_net import IntervalNet
from keras_advdef.evaluation.certify_intervals import certify_intervals
from keras_advdef.recipes._harden.request import CERTIFIED, OWNER, Request
from keras_advdef.recipes._harden.training_data import LabelledArrays

_LARGEST_SIDE = 64


def check_certifiable(model: keras.Model, shape: Sequence[int]) -> None:
    """Raises unless bounds can follow a model, and stay tight on such images.

    Args:
        model: The built classifier.
        shape: Of an image: rows, columns and channels.

    Raises:
        ValueError: If they cannot.
    """
    IntervalNet(OWNER, model)
    if max(shape[:2]) > _LARGEST_SIDE:
        rule = f'another one than "{CERTIFIED}" for images of more than '
        rule += f"{_LARGEST_SIDE} pixels a side"
        advice = "Interval bounds of larger ones are too loose to train for."
        raise invalid(OWNER, "recipe", rule, CERTIFIED, advice=advice)


def certified_share(request: Request, chosen: LabelledArrays) -> float:
    """Returns the share of images that are right whatever the attack.

    Args:
        request: What was asked for.
        chosen: The images.
    """
    found = certify_intervals(
        request.model,
        chosen.images,
        chosen.labels,
        epsilon=request.epsilon,
        value_range=(request.value_range.low, request.value_range.high),
        batch_size=request.batch_size,
    )
    return float(found.certified.mean())

"""Chooses what `harden` was not told: augmentation, warm-up, optimizer."""

import dataclasses

import keras

from keras_advdef.core.keras_private import learning_normalizations
from keras_advdef.core.model_inputs import add_channels
from keras_advdef.recipes._harden.request import Request
from keras_advdef.recipes._harden.training_data import TrainingData

# Smaller images are drawings and digits more often than photographs.
_LEAST_SIDE, _COLOURS = 24, 3
# Above this share of the range, training at full epsilon from the start may never leave
# the plateau of equal logits.
_LARGE_SHARE = 0.1
# Peak learning rates.
_SGD_RATE, _ADAM_RATE = 0.1, 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """What was chosen for a model and its data.

    Attributes:
        augment: Whether images are shifted and mirrored.
        warm_up: Whether epsilon grows over the first fifth of the steps.
        normalizes: Whether the model has batch normalization that learns, and trains
            by SGD.
        rate: Peak learning rate.
        notes: A sentence about each choice.
    """

    augment: bool
    warm_up: bool
    normalizes: bool
    rate: float
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, request: Request, data: TrainingData, own: list[keras.layers.Layer]
    ) -> "Choices":
        """Chooses for a model and its data.

        Args:
            request: What was asked for.
            data: The images.
            own: Augmentation layers at the front of the model.
        """
        augment, why = _augments(request, data, own)
        warm_up = request.warm_up
        if warm_up is None:
            warm_up = is_large(request)
        # Losses of bounds are too steep at first for the rates of SGD.
        normalizes = not request.is_certified and bool(
            learning_normalizations(request.model)
        )
        rate = request.learning_rate
        if rate is None:
            rate = _SGD_RATE if normalizes else _ADAM_RATE
        optimizer = "SGD with momentum" if normalizes else "Adam"
        notes = [
            f"Augmentation: {why}.",
            f"Optimizer: {optimizer}, peak rate {rate:g}.",
        ]
        if request.is_certified:
            warm_up = True
            notes.append(
                "From a tenth to six tenths of the steps epsilon grows from 0, and the "
                "share of the clean loss falls to a half."
            )
        elif warm_up:
            notes.append("Epsilon grows from 0 over the first fifth of the steps.")
        return cls(
            augment=augment,
            warm_up=warm_up,
            normalizes=normalizes,
            rate=rate,
            notes=tuple(notes),
        )


def is_large(request: Request) -> bool:
    """Returns whether epsilon is as large as on handwritten digits.

    Then one step from a clipped start makes little but corners of the ball, to which
    training overfits.

    Args:
        request: What was asked for.
    """
    share = request.epsilon / request.value_range.span
    return request.norm == "linf" and share > _LARGE_SHARE


def _augments(
    request: Request, data: TrainingData, own: list[keras.layers.Layer]
) -> tuple[bool, str]:
    """Returns whether to shift and mirror, and why."""
    if data.stream is not None:
        return False, "that of train_data"
    if request.augment is not None:
        asked = "shifts and mirrors, as asked" if request.augment else "none, as asked"
        return request.augment, asked
    if own:
        return False, "that of the model"
    rows, columns, channels = add_channels(data.arrays.images[:1]).shape[1:]
    is_photograph = rows == columns >= _LEAST_SIDE and channels == _COLOURS
    if is_photograph:
        text = "shifts and mirrors, as images are square and in colour"
        return True, f"{text} (augment=False turns them off)"
    text = f"none, as images are not square, in colour and of {_LEAST_SIDE} pixels"
    return False, f"{text} or more (augment=True shifts and mirrors them)"

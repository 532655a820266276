"""Request: the checked arguments of `evaluate_robustness`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.errors import (
    checked_choice,
    checked_instance,
    checked_integer,
    checked_number,
    invalid,
)
from keras_advdef.core.image_source import load_images
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.core.norms import NORMS
from keras_advdef.core.precision import PRECISIONS
from keras_advdef.core.random_numbers import SEED_LIMIT
from keras_advdef.core.value_range import (
    ValueRange,
    checked_epsilon,
    checked_images,
    small_epsilon_error,
)
from keras_advdef.evaluation._request.budget import BUDGETS, Budget
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel

OWNER = "evaluate_robustness"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Checked arguments of one evaluation.

    Attributes:
        evaluated: The evaluated model and its cards.
        images: The images that the budget evaluates, as the user gave them.
        labels: Their labels, as the user gave them.
        given: Number of images the user gave; `None` for a data set that was read only
            as far as needed.
        epsilon: Largest norm of a perturbation, in the units of `value_range`.
        norm: "linf", "l2" or "l1".
        value_range: Range of the pixels.
        budget: The budget.
        attacks: The user's own attacks instead of the budget's, or `None`.
        reference: Undefended model to compare with, or `None`.
        surrogate: Model from which images are transferred, or `None`.
        curve: Epsilons of the curve, or `None` for the default ones.
        batch_size: Images per compiled call.
        precision: Precision of the attacks' passes.
        seed: Seed of every draw.
    """

    evaluated: EvaluatedModel
    images: np.ndarray
    labels: np.ndarray
    given: int | None
    epsilon: float
    norm: str
    value_range: ValueRange
    budget: Budget
    attacks: tuple[Attack, ...] | None
    reference: EvaluatedModel | None
    surrogate: EvaluatedModel | None
    curve: tuple[float, ...] | None
    batch_size: int
    precision: str
    seed: int

    @classmethod
    def parse(
        cls,
        *,
        model: Any,
        images: Any,
        labels: Any,
        epsilon: float,
        norm: str,
        value_range: tuple[float, float],
        budget: str,
        attacks: Sequence[Attack] | None,
        reference: Any,
        surrogate: Any,
        curve: Sequence[float] | None,
        batch_size: int,
        precision: str,
        seed: int,
        allow_small_epsilon: bool,
    ) -> "Request":
        """Checks the user's arguments and returns the request.

        Raises:
            ValueError: If an argument is invalid; the message says how.
            TypeError: If the model cannot be called, or an attack is not an `Attack`.
        """
        pixels = ValueRange.parse(OWNER, value_range)
        plan = BUDGETS[checked_choice(OWNER, "budget", budget, tuple(BUDGETS))]
        source = load_images(OWNER, images, labels, most=plan.images)
        images, labels = checked_images(OWNER, source.images, pixels), source.labels
        most = len(images) if plan.images is None else plan.images
        if labels is None:
            advice = "Pass the true classes; predictions would hide every mistake."
            raise invalid(OWNER, "labels", "given", labels, advice=advice)
        if np.shape(labels)[:1] != (len(images),):
            rule = f"as many as the images, {len(images)}"
            raise invalid(OWNER, "labels", rule, np.asarray(labels))
        norm = checked_choice(OWNER, "norm", norm, NORMS)
        evaluated = EvaluatedModel.of(model)
        _check_shape("model", images, evaluated.image_shape)
        companions = {
            name: None if given is None else EvaluatedModel.of(given)
            for name, given in (("reference", reference), ("surrogate", surrogate))
        }
        for name, companion in companions.items():
            if companion is not None:
                _check_shape(name, images, companion.image_shape)
        return cls(
            evaluated=evaluated,
            images=images[:most],
            labels=np.asarray(labels)[:most],
            given=len(images) if source.is_whole else None,
            epsilon=_checked_epsilon(
                epsilon, pixels, norm=norm, small=allow_small_epsilon
            ),
            norm=norm,
            value_range=pixels,
            budget=plan,
            attacks=None
            if attacks is None
            else _checked_attacks(attacks, pixels, norm),
            reference=companions["reference"],
            surrogate=companions["surrogate"],
            curve=None if curve is None else _checked_curve(curve),
            batch_size=checked_integer(OWNER, "batch_size", batch_size, low=1),
            precision=checked_choice(OWNER, "precision", precision, PRECISIONS),
            seed=checked_integer(OWNER, "seed", seed, low=0, high=SEED_LIMIT - 1),
        )

    @property
    def count(self) -> int:
        """Number of evaluated images."""
        return len(self.images)

    @property
    def size(self) -> int:
        """Images per compiled call, at most the number of images."""
        return min(self.batch_size, self.count)

    def classes_of(self, classes: int) -> np.ndarray:
        """Returns the labels as integers, for a model with the given number of classes.

        Args:
            classes: Number of logits.

        Raises:
            ValueError: If a label is not a class of the model, or not one class.
        """
        return checked_class_labels(
            OWNER, self.labels, count=self.count, classes=classes
        )


def _check_shape(
    taker: str, images: np.ndarray, expected: tuple[int | None, ...]
) -> None:
    given = images.shape[1:]
    fits = len(expected) == len(given) and all(
        want in (None, size) for size, want in zip(given, expected, strict=True)
    )
    if expected and not fits:
        rule = f"of the shape that the {taker} takes, {expected}"
        raise invalid(OWNER, "images", rule, images)


def _checked_epsilon(
    epsilon: float, pixels: ValueRange, *, norm: str, small: bool
) -> float:
    number = checked_epsilon(OWNER, epsilon, pixels, norm=norm, low_open=True)
    otherwise = "To keep it, pass `allow_small_epsilon=True`."
    error = small_epsilon_error(OWNER, number, pixels, otherwise=otherwise)
    if error is not None and not small:
        raise error
    return number


def _checked_list(argument: str, value: Sequence[Any]) -> list[Any]:
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise invalid(OWNER, argument, "a list", value)
    return list(value)


def _checked_attacks(
    attacks: Sequence[Attack], pixels: ValueRange, norm: str
) -> tuple[Attack, ...]:
    for attack in _checked_list("attacks", attacks):
        checked_instance(OWNER, "attacks", attack, Attack)
        if attack.value_range != pixels:
            rule = f"attacks with value_range={tuple(pixels)}, the evaluation's"
            raise invalid(OWNER, "attacks", rule, attack)
        if attack.norm != norm:
            raise invalid(OWNER, "attacks", f"of the norm {norm}", attack)
        if attack.targeted:
            raise invalid(OWNER, "attacks", "untargeted", attack)
    return tuple(attacks)


def _checked_curve(curve: Sequence[float]) -> tuple[float, ...]:
    given = _checked_list("curve", curve)
    numbers = [checked_number(OWNER, "curve", each, low=0.0) for each in given]
    return tuple(sorted({*numbers}))

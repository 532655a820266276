"""Request: the checked arguments of `evaluate_robustness`."""

import dataclasses
import math
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
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.core.precision import PRECISIONS
from keras_advdef.core.random_numbers import SEED_LIMIT
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._request.balls import Ball, parse_balls
from keras_advdef.evaluation._request.budget import BUDGETS, Budget
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel
from keras_advdef.evaluation._request.image_data import (
    check_image_shape,
    checked_data,
)

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
        further: The norms that are evaluated besides, with their epsilons.
        value_range: Range of the pixels.
        budget: The budget.
        attacks: The user's own attacks instead of the budget's, of all norms, or
            `None`.
        reference: Undefended model to compare with, or `None`.
        surrogate: Model from which images are transferred, or `None`.
        curve: Epsilons of the curve, or `None` for the default ones.
        corruptions: Whether to measure the accuracy with common corruptions as well.
        batch_size: Images per compiled call.
        precision: Precision of the attacks' passes.
        seed: Seed of every draw.
        judgements: Fresh draws on which each image is judged if the model is random.
        class_names: Names of the classes in the order of their numbers, or `None`.
        data_name: What the images are, for readers; may be empty.
    """

    evaluated: EvaluatedModel
    images: np.ndarray
    labels: np.ndarray
    given: int | None
    epsilon: float
    norm: str
    further: tuple[Ball, ...]
    value_range: ValueRange
    budget: Budget
    attacks: tuple[Attack, ...] | None
    reference: EvaluatedModel | None
    surrogate: EvaluatedModel | None
    curve: tuple[float, ...] | None
    corruptions: bool
    batch_size: int
    precision: str
    seed: int
    judgements: int
    class_names: tuple[str, ...] | None
    data_name: str

    @classmethod
    def parse(
        cls,
        *,
        model: Any,
        images: Any,
        labels: Any,
        epsilon: Any,
        norm: str,
        norms: Sequence[str] | None,
        value_range: tuple[float, float],
        budget: str,
        attacks: Sequence[Attack] | None,
        reference: Any,
        surrogate: Any,
        curve: Sequence[float] | None,
        corruptions: bool,
        batch_size: int,
        precision: str,
        seed: int,
        judgements: int,
        allow_small_epsilon: bool,
        class_names: Sequence[str] | None = None,
        data_name: str = "",
    ) -> "Request":
        """Checks the user's arguments and returns the request.

        Raises:
            ValueError: If an argument is invalid; the message says how.
            TypeError: If the model cannot be called, or an attack is not an `Attack`.
        """
        pixels = ValueRange.parse(OWNER, value_range)
        plan = BUDGETS[checked_choice(OWNER, "budget", budget, tuple(BUDGETS))]
        images, labels, is_whole = checked_data(
            OWNER, images, labels, value_range=pixels, most=plan.images
        )
        most = len(images) if plan.images is None else plan.images
        main, *further = parse_balls(
            OWNER,
            epsilon,
            norm=norm,
            norms=norms,
            value_range=pixels,
            allow_small=allow_small_epsilon,
        )
        evaluated = EvaluatedModel.of(model)
        check_image_shape(OWNER, "model", images=images, expected=evaluated.image_shape)
        companions = {
            name: None if given is None else EvaluatedModel.of(given)
            for name, given in (("reference", reference), ("surrogate", surrogate))
        }
        for name, companion in companions.items():
            if companion is not None:
                check_image_shape(
                    OWNER, name, images=images, expected=companion.image_shape
                )
        return cls(
            evaluated=evaluated,
            images=images[:most],
            labels=labels[:most],
            given=len(images) if is_whole else None,
            epsilon=main.epsilon,
            norm=main.norm,
            further=tuple(further),
            value_range=pixels,
            budget=plan,
            attacks=None
            if attacks is None
            else _checked_attacks(attacks, pixels, [main, *further]),
            reference=companions["reference"],
            surrogate=companions["surrogate"],
            curve=None if curve is None else _checked_curve(curve),
            corruptions=_checked_flag("corruptions", corruptions),
            batch_size=checked_integer(OWNER, "batch_size", batch_size, low=1),
            precision=checked_choice(OWNER, "precision", precision, PRECISIONS),
            seed=checked_integer(OWNER, "seed", seed, low=0, high=SEED_LIMIT - 1),
            judgements=checked_integer(OWNER, "judgements", judgements, low=2),
            class_names=None if class_names is None else _checked_names(class_names),
            data_name=checked_instance(OWNER, "data_name", data_name, str),
        )

    @property
    def full_range(self) -> float:
        """The epsilon whose ball contains all images."""
        size, span = math.prod(self.images.shape[1:]), self.value_range.span
        sizes = {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}
        return span * sizes[self.norm]

    @property
    def epsilon_per_value(self) -> float:
        """How far each value moves if all move alike to the edge of the ball."""
        return self.epsilon / self.full_range * self.value_range.span

    @property
    def count(self) -> int:
        """Number of evaluated images."""
        return len(self.images)

    @property
    def size(self) -> int:
        """Images per compiled call, at most the number of images."""
        return min(self.batch_size, self.count)

    def under(self, ball: Ball) -> "Request":
        """Returns the request for one of the further norms, without what is shown only.

        Curve, smallest perturbations and corruptions are measured for the main norm
        alone.

        Args:
            ball: The norm, with its epsilon.
        """
        return dataclasses.replace(
            self,
            epsilon=ball.epsilon,
            norm=ball.norm,
            further=(),
            budget=dataclasses.replace(self.budget, searched=0),
            curve=(),
            corruptions=False,
        )

    def classes_of(self, classes: int) -> np.ndarray:
        """Returns the labels as integers, for a model with the given number of classes.

        Args:
            classes: Number of logits.

        Raises:
            ValueError: If a label is not a class of the model, or not one class; or if
                there are more names than classes, or a label without a name.
        """
        labels = checked_class_labels(
            OWNER, self.labels, count=self.count, classes=classes
        )
        names = self.class_names
        # A class for "adversarial" may come after those with names.
        if names is not None and not labels.max() < len(names) <= classes:
            rule = f"one name for each of the {classes} classes of the model"
            raise invalid(OWNER, "class_names", rule, list(names))
        return labels


def _checked_flag(argument: str, value: bool) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise invalid(OWNER, argument, "True or False", value)
    return bool(value)


def _checked_list(argument: str, value: Sequence[Any]) -> list[Any]:
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise invalid(OWNER, argument, "a list", value)
    return list(value)


def _checked_attacks(
    attacks: Sequence[Attack], pixels: ValueRange, balls: Sequence[Ball]
) -> tuple[Attack, ...]:
    norms = [ball.norm for ball in balls]
    given = _checked_list("attacks", attacks)
    for attack in given:
        checked_instance(OWNER, "attacks", attack, Attack)
        attack.check_measures(OWNER, "attacks")
        if attack.value_range != pixels:
            rule = f"attacks with value_range={tuple(pixels)}, the evaluation's"
            raise invalid(OWNER, "attacks", rule, attack)
        if attack.norm not in norms:
            rule = f"of the norm {' or '.join(norms)}"
            raise invalid(OWNER, "attacks", rule, attack)
        if attack.targeted:
            raise invalid(OWNER, "attacks", "untargeted", attack)
    if len(norms) > 1:
        for norm in {*norms} - {attack.norm for attack in given}:
            rule = f"at least one attack of each norm, {', '.join(norms)}"
            raise invalid(OWNER, "attacks", rule, given, advice=f"Add one of {norm}.")
    return tuple(given)


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    given = _checked_list("class_names", names)
    if not given or not all(isinstance(each, str) and each.strip() for each in given):
        rule = "a list of texts, one for each class"
        raise invalid(OWNER, "class_names", rule, given)
    return tuple(map(str, given))


def _checked_curve(curve: Sequence[float]) -> tuple[float, ...]:
    given = _checked_list("curve", curve)
    numbers = [checked_number(OWNER, "curve", each, low=0.0) for each in given]
    return tuple(sorted({*numbers}))

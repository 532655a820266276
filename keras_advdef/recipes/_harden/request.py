"""What `harden` was asked for, checked."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_advdef.core.errors import (
    checked_choice,
    checked_instance,
    checked_integer,
    checked_number,
    invalid,
)
from keras_advdef.core.value_range import (
    ValueRange,
    checked_epsilon,
    small_epsilon_error,
)

OWNER = "harden"
CERTIFIED = "certified"
RECIPES = ("fast", "pgd", "trades", "trades_awp", CERTIFIED)
NORMS = ("linf", "l2", "l1")
PRECISIONS = ("auto", "float32", "bfloat16")
# In linf, a larger share of the range can turn any image into plain grey.
_LARGEST_SHARE = 0.5
# At 1 the average would never leave the first weights.
_LARGEST_SHARE_KEPT = 0.99999


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """The checked arguments of `harden`.

    Attributes:
        model: The classifier.
        recipe: One of `RECIPES`.
        epsilon: Radius, in the units of `value_range`.
        norm: Norm of the perturbations.
        value_range: Range of the pixels.
        epochs: Passes over the training images; `None` to choose.
        minutes: Most minutes for everything; `None` for no limit.
        output: Folder for the results; `None` for none.
        precision: One of `PRECISIONS`.
        seed: Seed of every draw.
        augment: Whether to shift and mirror; `None` to look at the images.
        weight_decay: Decay of the kernels, as the factor of an L2 penalty.
        averaging: Share of the old average kept in a step; 0 for no average.
        patience: Epochs without a better one after which training stops.
        warm_up: Whether epsilon grows at first; `None` to look at epsilon.
        guard: Whether to go back when single-step training collapses.
        learning_rate: Its peak; `None` to choose.
        batch_size: Images per step.
        class_weight: As in `fit`.
        class_names: Names of the classes, or `None`.
        data_name: What the images are.
    """

    model: keras.Model
    recipe: str
    epsilon: float
    norm: str
    value_range: ValueRange
    epochs: int | None
    minutes: float | None
    output: Path | None
    precision: str
    seed: int
    augment: bool | None
    weight_decay: float
    averaging: float
    patience: int | None
    warm_up: bool | None
    guard: bool
    learning_rate: float | None
    batch_size: int
    class_weight: Mapping[int, float] | None
    class_names: Sequence[str] | None
    data_name: str

    @classmethod
    def parse(cls, **given: Any) -> "Request":
        """Checks the arguments of `harden` and returns them as a request.

        Args:
            **given: The arguments, by name.

        Raises:
            TypeError: If the model is not a Keras model.
            ValueError: If an argument is out of its bounds.
        """
        checked_instance(OWNER, "model", given["model"], keras.Model)
        pixels = ValueRange.parse(OWNER, given["value_range"])
        norm = checked_choice(OWNER, "norm", given["norm"], NORMS)
        choices = {
            "recipe": checked_choice(OWNER, "recipe", given["recipe"], RECIPES),
            "precision": checked_choice(
                OWNER, "precision", given["precision"], PRECISIONS
            ),
            "norm": norm,
            "value_range": pixels,
            "epsilon": _epsilon(given["epsilon"], pixels, norm),
        }
        if choices["recipe"] == CERTIFIED and norm != "linf":
            advice = "Interval bounds hold in linf; choose another recipe or norm."
            rule = f'"linf" with the recipe "{CERTIFIED}"'
            raise invalid(OWNER, "norm", rule, norm, advice=advice)
        output = given["output"]
        return cls(
            **{
                **given,
                **choices,
                **_numbers(given),
                **_switches(given),
                "output": None if output is None else Path(output),
            }
        )

    @property
    def is_certified(self) -> bool:
        """Whether the recipe trains for certificates."""
        return self.recipe == CERTIFIED

    @property
    def epsilon_text(self) -> str:
        """Epsilon and its norm, as people write them."""
        return f"{self.norm}, epsilon {self.value_range.epsilon_text(self.epsilon)}"


def _epsilon(epsilon: Any, pixels: ValueRange, norm: str) -> float:
    number = checked_epsilon(OWNER, epsilon, pixels, norm=norm, low_open=True)
    most = _LARGEST_SHARE * pixels.span
    if norm == "linf" and number > most:
        rule = f"at most {most:g}, half the value range"
        advice = "At more, an attacker can make every image plain grey."
        raise invalid(OWNER, "epsilon", rule, epsilon, advice=advice)
    error = small_epsilon_error(OWNER, number, pixels)
    if error is not None:
        raise error
    return number


def _numbers(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the checked numbers; `None` stays `None`."""
    found: dict[str, Any] = {}
    for name, low, is_open in (
        ("minutes", 0.0, True),
        ("learning_rate", 0.0, True),
        ("weight_decay", 0.0, False),
    ):
        value = given[name]
        if value is not None:
            value = checked_number(OWNER, name, value, low=low, low_open=is_open)
        found[name] = value
    for name in ("epochs", "patience", "batch_size"):
        value = given[name]
        if value is not None:
            value = checked_integer(OWNER, name, value, low=1)
        found[name] = value
    found["seed"] = checked_integer(OWNER, "seed", given["seed"], low=0)
    found["averaging"] = checked_number(
        OWNER, "averaging", given["averaging"], low=0.0, high=_LARGEST_SHARE_KEPT
    )
    return found


def _switches(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the switches that may be "auto", as `None` where they are."""
    choices = (True, False, "auto")
    return {
        name: None
        if checked_choice(OWNER, name, given[name], choices) == "auto"
        else bool(given[name])
        for name in ("augment", "warm_up")
    }

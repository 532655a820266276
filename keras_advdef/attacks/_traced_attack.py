"""TracedAttack: what the compiled functions of an attack compute."""

import copy
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_advdef.attacks._guard import finite_looks, kept_in_ball
from keras_advdef.core.logits import LogitsFunction, watch_logits
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope

if TYPE_CHECKING:
    from keras_advdef.attacks.stepped_attack import State

# Attributes of an attack that its compiled functions get as tensors.
Numbers = dict[str, tf.Tensor]


class TracedAttack:
    """What the compiled functions compute. Holds the attack and the model as given.

    Args:
        attack: Returns the attack.
        model: Returns the model.
        view: How the attack sees the model.
    """

    def __init__(
        self, attack: Callable[[], Any], model: Callable[[], Any], view: ModelView
    ) -> None:
        self._attack = attack
        self._model = model
        self._view = view

    def _parts(
        self,
        temperature: tf.Tensor,
        numbers: Numbers | None = None,
        state: "State | None" = None,
    ) -> tuple[Any, LogitsFunction]:
        """Returns the attack, and the model as it calls it; fresh for each trace."""
        attack, model = self._attack_with(numbers or {}), self._model()
        if not isinstance(model, LogitsFunction):
            model = dataclasses.replace(
                self._view, model=model, temperature=temperature
            )
        logits_fn = attack.logits_function(model)
        if state is not None and "mask" in state:
            logits_fn = logits_fn.within(state["mask"], state["images"])
        return attack, logits_fn

    def _attack_with(self, numbers: Numbers) -> Any:
        attack = copy.copy(self._attack())
        vars(attack).update(numbers)
        return attack

    def craft(
        self,
        rows: tuple[tf.Tensor, ...],
        temperature: tf.Tensor,
        key: tf.Tensor,
    ) -> Any:
        attack, logits_fn = self._parts(temperature)
        images, labels, epsilon, *mask = rows
        unit = attack.value_range.to_unit(images)
        logits_fn = logits_fn.within(mask[0], unit) if mask else logits_fn
        with watch_logits(unit) as looks:
            found = attack.perturb(logits_fn, unit, labels, epsilon, key)
            found = kept_in_ball(found, unit, attack.reach(epsilon), attack.norm)
        pixels = attack.value_range.pixels_of(found)
        is_finite = finite_looks(logits_fn, looks)
        return pixels if is_finite is None else (pixels, is_finite)

    def logits(
        self, images: tf.Tensor, temperature: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        _, logits_fn = self._parts(temperature)
        with draw_scope(key):
            return logits_fn.full_precision.on_pixels(images)

    def start(
        self, rows: tuple[tf.Tensor, ...], temperature: tf.Tensor, key: tf.Tensor
    ) -> "State":
        return self._begun("start", rows, temperature, key)

    def begin(
        self, rows: tuple[tf.Tensor, ...], temperature: tf.Tensor, key: tf.Tensor
    ) -> "State":
        return self._begun("begin", rows, temperature, key)

    def _begun(
        self,
        name: str,
        rows: tuple[tf.Tensor, ...],
        temperature: tf.Tensor,
        key: tf.Tensor,
    ) -> "State":
        attack, logits_fn = self._parts(temperature)
        begin = getattr(attack, name)
        images, labels, epsilon, run, *mask = rows
        if not mask:
            return begin(logits_fn, images, labels, epsilon, key, run)
        unit = attack.value_range.to_unit(images)
        logits_fn = logits_fn.within(mask[0], unit)
        state = begin(logits_fn, images, labels, epsilon, key, run)
        return {**state, "mask": mask[0]}

    def step(
        self,
        rows: tuple["State", Numbers, tf.Tensor],
        temperature: tf.Tensor,
        key: tf.Tensor,
        index: tf.Tensor,
        steps: tf.Tensor,
    ) -> "State":
        state, numbers, epsilon = rows
        attack, logits_fn = self._parts(temperature, numbers, state)
        taken = state["step"] + tf.cast(index, tf.float32)
        fresh = fold_in(key, index)
        moved = attack.step(logits_fn, state, epsilon, fresh, taken)
        return attack.where_due(taken < steps, moved, state)

    def look(
        self,
        seen: "State",
        temperature: tf.Tensor,
        key: tf.Tensor,
        index: tf.Tensor,
        sample: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        attack, logits_fn = self._parts(temperature, state=seen)
        key = fold_in(fold_in(key, index), sample)
        with watch_logits(seen["iterate"]) as looks:
            found = attack.look(logits_fn, seen, key)
        is_finite = finite_looks(logits_fn, looks)
        # Floats, to be averaged over draws.
        return found if is_finite is None else (*found, tf.cast(is_finite, tf.float32))

    def move(
        self,
        rows: tuple["State", tuple[tf.Tensor, ...], Numbers, tf.Tensor],
        index: tf.Tensor,
        steps: tf.Tensor,
    ) -> "State":
        state, slope, numbers, epsilon = rows
        attack = self._attack_with(numbers)
        taken = state["step"] + tf.cast(index, tf.float32)
        moved = attack.move(state, slope, epsilon, taken)
        return attack.where_due(taken < steps, moved, state)

    def glance(
        self,
        seen: "State",
        temperature: tf.Tensor,
        key: tf.Tensor,
        sample: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        attack, logits_fn = self._parts(temperature, state=seen)
        return attack.glance(logits_fn, seen, key, sample)

    def keep(
        self,
        rows: tuple["State", tuple[tf.Tensor, ...], tf.Tensor],
        count: tf.Tensor,
    ) -> "State":
        attack = self._attack()
        state, glance, epsilon = rows
        return _settled(attack, attack.keep(state, *glance), epsilon, count)

    def settle(
        self,
        rows: tuple["State", tf.Tensor],
        temperature: tf.Tensor,
        key: tf.Tensor,
        count: tf.Tensor,
    ) -> "State":
        state, epsilon = rows
        attack, logits_fn = self._parts(temperature, state=state)
        state = attack.evaluate(logits_fn, state, key)
        return _settled(attack, state, epsilon, count)

    def confirm(
        self,
        rows: tuple[tf.Tensor, tf.Tensor],
        temperature: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        attack, logits_fn = self._parts(temperature)
        return attack.confirm(logits_fn, *rows, key)

    def pixels(self, rows: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        attack = self._attack()
        found, images, epsilon = rows
        unit = attack.value_range.to_unit(images)
        found = kept_in_ball(found, unit, attack.reach(epsilon), attack.norm)
        return attack.value_range.pixels_of(found)


def _settled(
    attack: Any, state: "State", epsilon: tf.Tensor, count: tf.Tensor
) -> "State":
    """Returns what changes when a segment ends: the best point, steps taken."""
    reach = attack.reach(epsilon)
    best = kept_in_ball(state["best"], state["images"], reach, attack.norm)
    names = ("best_loss", "broken")
    kept = {name: state[name] for name in names}
    return {**kept, "best": best, "step": state["step"] + count}

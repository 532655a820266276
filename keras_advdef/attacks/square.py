"""Square: random search over square patches, which needs scores only."""

from collections.abc import Callable
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._early_stopping import run_slots
from keras_advdef.attacks._square_proposals import (
    moved_mass,
    recolored_square,
    stripes,
    tiles,
)
from keras_advdef.attacks._success import is_broken, needs_confirmation
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.stepped_attack import State, SteppedAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.image_layout import (
    checked_data_format,
    from_channels_last,
    to_channels_last,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import per_image
from keras_advdef.core.predictions import logit_margin
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope


@keras.saving.register_keras_serializable(package="keras_advdef")
class Square(SteppedAttack):
    """Random search over square patches that sees nothing but logits.

    A proposal changes one square, at a random place and of a side that shrinks with
    the queries, and is kept if the margin rises (Andriushchenko et al. 2020, with the
    sides of AutoAttack). It needs no gradient, so it shows whether a model only hides
    its own. Broken images stand still, and leave `generate` whatever `stop_early` is.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        queries: Proposals for each image, each one forward pass; the start is one
            more.
        **kwargs: `restarts`, `norm` ("linf" or "l2"), `targeted`, `training`,
            `precision` and `value_range`; see `SteppedAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     return tf.reduce_mean(images, axis=(1, 2)) * [1.0, -1.0] + [-0.5, 0.4]
    >>> images = np.full((1, 8, 8, 1), 0.4, "float32")
    >>> attack = keras_advdef.attacks.Square(0.3, queries=50)
    >>> adversarial = attack.generate(model, images, [1], seed=0, verbose=0)
    >>> int(np.argmax(model(adversarial)))
    0
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    moving: ClassVar[tuple[str, ...]] = ("best", "best_loss", "broken", "loss")
    segment: ClassVar[int] = 50

    # Steps are what `queries` says.
    settled: ClassVar[dict[str, Any]] = {"steps": None, "eot_samples": 1}

    def __init__(
        self, epsilon: float | None = None, *, queries: int = 5000, **kwargs: Any
    ) -> None:
        self.queries = checked_integer(type(self).__name__, "queries", queries, low=1)
        arguments = {**self.with_settled(kwargs), "steps": self.queries}
        super().__init__(epsilon, **arguments)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del model
        return Passes(self.runs(classes) * (self.queries + 1), 0)

    def init_state(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state of stripes or tiles; see `SteppedAttack.init_state`."""
        del run
        key = fold_in(key, streams.SQUARE_START)
        first = stripes if self.norm == "linf" else tiles
        iterate = _drawn(first, fold_in(key, 0), images, epsilon=epsilon)
        losses, broken = self._evaluate(logits_fn, iterate, labels, fold_in(key, 1))
        return {
            "images": images,
            "labels": labels,
            "best": iterate,
            "best_loss": losses,
            "broken": broken,
            # Stays known when a success, and with it its loss, is taken back.
            "loss": losses,
        }

    def step(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Changes a square of the best point where that raises the loss."""
        propose = recolored_square if self.norm == "linf" else moved_mass
        best = state["best"]
        clean, key_here = state["images"], fold_in(key, 0)
        proposal = _drawn(propose, key_here, clean, best, epsilon=epsilon, taken=taken)
        losses, broken = self._evaluate(
            logits_fn, proposal, state["labels"], fold_in(key, 1)
        )
        is_better = losses > state["loss"]
        if not needs_confirmation(logits_fn):
            is_better &= ~state["broken"]
        wide = per_image(is_better, best)
        return {
            **state,
            "best": tf.where(wide, proposal, best),
            "best_loss": tf.where(is_better, losses, state["best_loss"]),
            "broken": state["broken"] | (broken & is_better),
            "loss": tf.where(is_better, losses, state["loss"]),
        }

    def repeat(
        self,
        logits_fn: LogitsFunction,
        state: State,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        count: int,
    ) -> State:
        """Returns the state `count` queries later, or when no image is left."""
        advance = super().repeat
        if count <= self.segment:
            return advance(logits_fn, state, epsilon, key, count)
        stops_early = not needs_confirmation(logits_fn)

        def goes_on(taken: tf.Tensor, values: dict[str, Any]) -> tf.Tensor:
            is_left = tf.reduce_any(~values["broken"]) if stops_early else True
            return (taken < count) & is_left

        def body(taken: tf.Tensor, values: dict[str, Any]) -> Any:
            step = tf.cast(taken, tf.float32)
            current = {**state, **values, "step": step}
            fresh = fold_in(key, taken)
            moved = advance(logits_fn, current, epsilon, fresh, self.segment)
            return taken + self.segment, {name: moved[name] for name in self.moving}

        values = {name: state[name] for name in self.moving}
        _, values = tf.while_loop(
            goes_on, body, (tf.constant(0), values), parallel_iterations=1
        )
        return {**state, **values}

    def fill(self, job: Any, epsilon: tf.Tensor, *, stop_early: bool) -> None:
        """Fills the job's result; broken images always leave, they stand still."""
        del stop_early
        run_slots(self, job, epsilon)

    def _evaluate(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the margin to maximise and success."""
        with draw_scope(key):
            logits = logits_fn(images)
        losses = logit_margin(logits, labels, targeted=self.targeted)
        return losses, is_broken(logits, labels, self.targeted)

    def __str__(self) -> str:
        return f"Square-{self.queries}"


def _drawn(
    draw: Callable[..., tf.Tensor], key: tf.Tensor, *images: tf.Tensor, **how: Any
) -> tf.Tensor:
    """What is drawn on images, whose channels may come first."""
    data_format = checked_data_format("Square")
    seen = [to_channels_last(each, data_format) for each in images]
    return from_channels_last(draw(key, *seen, **how), data_format)

"""BoundaryAttack: a random walk along the decision boundary."""

import functools
import math
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._decisions import (
    Decide,
    decides,
    first_points,
    to_boundary,
)
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_integer, checked_number
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import norm_per_image, per_image
from keras_advdef.core.random_numbers import fold_in, normal

_HALVINGS = 10
# Every so many steps the sphere is looked at too; it costs a pass of its own.
_SPHERE_EVERY = 5
# Proposals over which a success rate is taken.
_WINDOW = 20.0
_SPHERE_WINDOW = 10.0
_LARGEST_STEP = 1.0


@keras.saving.register_keras_serializable(package="keras_advdef")
class BoundaryAttack(MinimalAttack):
    """A random walk along the decision boundary towards the image.

    Starts from noise blended towards the image. Each step proposes a random move on the
    sphere around the image and then a short one towards it, and takes it where the
    decision holds (Brendel, Rauber and Bethge 2018). Both lengths, shares of the
    distance, follow the success rates of each image's last proposals: about half on the
    sphere, a quarter of the moves inward. Works on any function.

    A targeted attack starts from the nearest image of the batch that is predicted as
    the target, so its result depends on the other images.

    Args:
        epsilon: Number of at least 0. Largest l2 norm that counts, in the units of
            `value_range`; `None` for no limit.
        steps: Proposals.
        spherical_step: First length of the moves on the sphere, a share of the distance
            to the image.
        source_step: First length of the moves towards the image, such a share too.
        step_adaptation: Factor above 1 by which both are adapted.
        starting_tries: Draws of noise, uniform and black and white in turn, among which
            the start is looked for.
        **kwargs: `targeted`, `training` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     return tf.one_hot(tf.cast(images[:, 0, 0, 0] > 0.5, tf.int32), 2, 9.0)
    >>> images = np.full((1, 2, 2, 1), 0.4, "float32")
    >>> attack = keras_advdef.attacks.BoundaryAttack(steps=50)
    >>> found = attack.search(model, images, [0], seed=0, verbose=0)
    >>> found.norms.shape, found.success.tolist()
    ((1,), [True])
    """

    takes_mask = False
    norms: ClassVar[tuple[str, ...]] = ("l2",)

    settled: ClassVar[dict[str, Any]] = {
        "norm": "l2",
        "precision": "float32",
        "eot_samples": 1,
    }

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 5000,
        spherical_step: float = 0.01,
        source_step: float = 0.01,
        step_adaptation: float = 1.5,
        starting_tries: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **self.with_settled(kwargs))
        owner = type(self).__name__
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.spherical_step = checked_number(
            owner, "spherical_step", spherical_step, low=0.0, high=1.0, low_open=True
        )
        self.source_step = checked_number(
            owner, "source_step", source_step, low=0.0, high=1.0, low_open=True
        )
        self.step_adaptation = checked_number(
            owner, "step_adaptation", step_adaptation, low=1.0, low_open=True
        )
        self.starting_tries = checked_integer(
            owner, "starting_tries", starting_tries, low=1
        )

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del classes, model
        proposals = self.steps + math.ceil(self.steps / _SPHERE_EVERY)
        # A targeted start looks at the batch's other images; a look before and after.
        start = self.starting_tries + self.targeted + _HALVINGS
        return Passes(proposals + start + 2, 0)

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns where the walk ends; see `MinimalAttack.look_for`."""
        del epsilon
        targeted, key = self.targeted, fold_in(seed, streams.WALK_START)
        decide = functools.partial(decides, logits_fn, labels=labels, targeted=targeted)
        start, found = first_points(
            logits_fn,
            images,
            labels,
            fold_in(key, 0),
            targeted=targeted,
            tries=self.starting_tries,
        )
        start = to_boundary(
            decide, images, start, fold_in(key, 1), norm="l2", halvings=_HALVINGS
        )

        def body(
            index: tf.Tensor, state: dict[str, tf.Tensor]
        ) -> tuple[tf.Tensor, ...]:
            own = fold_in(seed, index)
            return index + 1, self._step(decide, images, state, index, own)

        return tf.while_loop(
            lambda index, state: (index < self.steps) & tf.reduce_any(found),
            body,
            (tf.constant(0), self._begin(start)),
            parallel_iterations=1,
        )[1]["points"]

    def _begin(self, start: tf.Tensor) -> dict[str, tf.Tensor]:
        zeros = tf.zeros_like(norm_per_image(start, "l2"))
        return {
            "points": start,
            "spherical_step": zeros + self.spherical_step,
            "source_step": zeros + self.source_step,
            "spherical_hits": zeros,
            "spherical_count": zeros,
            "source_hits": zeros,
            "source_count": zeros,
        }

    def _step(
        self,
        decide: Decide,
        images: tf.Tensor,
        state: dict[str, tf.Tensor],
        index: tf.Tensor,
        key: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Proposes, decides and, now and then, adapts the lengths."""
        points = state["points"]
        sphere, inner = _proposals(images, state, fold_in(key, 0))
        holds = decide(inner, fold_in(key, 1))
        nearer = norm_per_image(inner - images, "l2") < norm_per_image(
            points - images, "l2"
        )
        moved = tf.where(per_image(holds & nearer, images), inner, points)
        state = _counted({**state, "points": moved}, "source", holds)
        state = self._adapted(state, "source", _WINDOW, (0.1, 0.25))

        def look() -> dict[str, tf.Tensor]:
            held = decide(sphere, fold_in(key, 2))
            counted = _counted(state, "spherical", held)
            return self._adapted(counted, "spherical", _SPHERE_WINDOW, (0.2, 0.5))

        return tf.cond(index % _SPHERE_EVERY == 0, look, lambda: state)

    def _adapted(
        self,
        state: dict[str, tf.Tensor],
        name: str,
        window: float,
        rates: tuple[float, float],
    ) -> dict[str, tf.Tensor]:
        """Returns the state with its lengths adapted where the window is full.

        Too few successes on the sphere shorten both lengths, since the moves inward
        start there; too few inward shorten those alone.
        """
        hits, count = state[f"{name}_hits"], state[f"{name}_count"]
        full = count >= window
        factor = tf.where(hits > rates[1] * count, self.step_adaptation, 1.0)
        factor = tf.where(hits < rates[0] * count, 1.0 / self.step_adaptation, factor)
        factor = tf.where(full, factor, 1.0)
        changed = dict(state)
        for each in ("source",) if name == "source" else ("spherical", "source"):
            step = state[f"{each}_step"] * factor
            changed[f"{each}_step"] = tf.minimum(step, _LARGEST_STEP)
        changed[f"{name}_hits"] = tf.where(full, 0.0, hits)
        changed[f"{name}_count"] = tf.where(full, 0.0, count)
        return changed


def _counted(
    state: dict[str, tf.Tensor], name: str, holds: tf.Tensor
) -> dict[str, tf.Tensor]:
    hits = state[f"{name}_hits"] + tf.cast(holds, tf.float32)
    count = state[f"{name}_count"] + 1.0
    return {**state, f"{name}_hits": hits, f"{name}_count": count}


def _proposals(
    images: tf.Tensor, state: dict[str, tf.Tensor], key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a point on the sphere through the current one, and one further in."""
    points = state["points"]
    outward = points - images
    distance = norm_per_image(outward, "l2")
    unit = tf.math.divide_no_nan(outward, per_image(distance, images))
    noise = normal(key, tf.unstack(tf.shape(images)))
    axes = list(range(1, images.shape.rank))
    noise -= tf.reduce_sum(noise * unit, axes, keepdims=True) * unit
    noise = tf.math.divide_no_nan(noise, per_image(norm_per_image(noise, "l2"), images))
    step = state["spherical_step"]
    moved = outward + per_image(step * distance, images) * noise
    sphere = images + moved / per_image(tf.sqrt(1.0 + step * step), images)
    sphere = tf.clip_by_value(sphere, 0.0, 1.0)
    # Clipping has brought some points nearer already.
    after = norm_per_image(sphere - images, "l2")
    length = state["source_step"] * distance - (distance - after)
    share = tf.math.divide_no_nan(tf.maximum(length, 0.0), after)
    inner = sphere + per_image(share, images) * (images - sphere)
    return sphere, tf.clip_by_value(inner, 0.0, 1.0)

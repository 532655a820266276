"""DDN: a walk of unit steps on a sphere that grows and shrinks."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._walk import (
    Look,
    State,
    Walk,
    annealed,
    soft_margin,
    widest,
)
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_number
from keras_advdef.core.norms import norm_per_image, per_image, steepest_step
from keras_advdef.core.random_numbers import fold_in, normal

# What the length of the steps falls to.
_LAST_STEP = 0.01


@keras.saving.register_keras_serializable(package="keras_advdef")
class DDN(Walk):
    """Decoupled direction and norm: smaller spheres after a success, larger ones else.

    Each step goes along the gradient of the cross-entropy, of which only the direction
    counts, and ends on a sphere around the image: smaller by the share `gamma` than the
    last where the point was adversarial, larger where it was not. Steps begin with a
    length of one and get shorter along a cosine (Rony et al. 2019). The nearest
    adversarial point is kept. Unlike the authors', it is not rounded to 256 levels.

    Args:
        epsilon: Number of at least 0. Largest l2 norm that counts, in the units of
            `value_range`; `None` for no limit.
        steps: Steps, one forward and one backward pass each.
        gamma: Share above 0, at most 1, by which the sphere grows or shrinks.
        initial_norm: Radius of the first sphere, for images in `[0, 1]`.
        **kwargs: `targeted`, `training`, `precision` (of the backward passes),
            `eot_samples` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten()])
    >>> images = np.reshape([0.6, 0.3], (1, 2, 1, 1))
    >>> attack = keras_advdef.attacks.DDN(steps=50)
    >>> found = attack.search(model, images, [0], seed=0, verbose=0)
    >>> bool(0.3 < np.sqrt(2) * found.norms[0] < 0.32)
    True
    """

    norms: ClassVar[tuple[str, ...]] = ("l2",)

    settled: ClassVar[dict[str, Any]] = {"norm": "l2"}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 100,
        gamma: float = 0.05,
        initial_norm: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, steps=steps, **self.with_settled(kwargs))
        bounds: dict[str, Any] = {"low": 0.0, "low_open": True}
        self.gamma = checked_number("DDN", "gamma", gamma, **bounds, high=1.0)
        self.initial_norm = checked_number(
            "DDN", "initial_norm", initial_norm, **bounds
        )

    def objective(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the soft margin, with the cross-entropy's direction."""
        return soft_margin(logits, labels, targeted=self.targeted)

    def begin(self, images: tf.Tensor) -> State:
        """Returns the radius of the first sphere."""
        return {"radius": tf.fill([tf.shape(images)[0]], self.initial_norm)}

    def move(self, state: State, look: Look, taken: tf.Tensor, key: tf.Tensor) -> State:
        """Returns the points on their next spheres; see `Walk.move`."""
        images, point = state["images"], state["point"]
        direction = steepest_step(look.gradient, point, "l2")
        # A model that is flat here may not be so elsewhere.
        noise = normal(fold_in(key, streams.DDN_DIRECTION), tf.unstack(tf.shape(point)))
        is_flat = norm_per_image(direction, "linf") == 0.0
        random = steepest_step(noise, point, "l2")
        direction = tf.where(per_image(is_flat, point), random, direction)
        moved = (
            point - images + annealed(taken, self.steps, 1.0, _LAST_STEP) * direction
        )
        growth = tf.where(look.succeeds, 1.0 - self.gamma, 1.0 + self.gamma)
        radius = tf.minimum(growth * state["radius"], widest(images, "l2"))
        moved = per_image(radius, images) * steepest_step(moved, point, "l2")
        point = tf.clip_by_value(images + moved, 0.0, 1.0)
        return {**state, "point": point, "radius": radius}

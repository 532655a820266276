"""SigmaZero: descent on a smooth count of the changed values."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._adam import adam
from keras_advdef.attacks._walk import Look, State, Walk, annealed
from keras_advdef.core.errors import checked_number
from keras_advdef.core.image_layout import value_count
from keras_advdef.core.norms import norm_per_image, per_image
from keras_advdef.core.predictions import logit_margin

# Share of its first value to which the learning rate falls.
_LAST_RATE = 0.1
# How far the threshold moves for a learning rate of one.
_THRESHOLD_RATE = 0.01


@keras.saving.register_keras_serializable(package="keras_advdef")
class SigmaZero(Walk):
    """Minimizes the number of changed values by descent on a smooth stand-in.

    Adam lowers `max(z_label - z_other, 0) + mean(d^2 / (d^2 + sigma))`, where d is the
    perturbation, along gradients scaled to a largest value of one. After each step,
    values of the perturbation below a threshold become zero; the threshold rises after
    a success and falls after a miss (Cinà et al. 2025). The adversarial point with the
    fewest changes is kept.

    The norm is "l0", the number of changed values: each channel of a pixel counts.

    Args:
        epsilon: Largest number of values that may change; `None` for no limit.
        steps: Steps, one forward and one backward pass each.
        learning_rate: First learning rate of Adam, for images in `[0, 1]`; falls to a
            tenth along a cosine.
        sigma: Squared size of a change that counts as half a change.
        threshold: First threshold, between 0 and 1, for images in `[0, 1]`.
        **kwargs: `targeted`, `training`, `precision` (of the backward passes),
            `eot_samples` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     score = tf.reduce_sum(images * [[[1.0], [2.0]], [[3.0], [4.0]]], [1, 2, 3])
    ...     return tf.stack([4.0 - score, score], axis=1)
    >>> images = np.full((1, 2, 2, 1), 0.1)
    >>> attack = keras_advdef.attacks.SigmaZero(steps=50)
    >>> attack.search(model, images, [0], seed=0, verbose=0).norms.tolist()
    [1.0]
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)

    settled: ClassVar[dict[str, Any]] = {"norm": "l0"}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 1000,
        learning_rate: float = 1.0,
        sigma: float = 0.001,
        threshold: float = 0.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, steps=steps, **self.with_settled(kwargs))
        bounds: dict[str, Any] = {"low": 0.0, "low_open": True}
        owner = "SigmaZero"
        self.learning_rate = checked_number(
            owner, "learning_rate", learning_rate, **bounds
        )
        self.sigma = checked_number(owner, "sigma", sigma, **bounds)
        self.threshold = checked_number(
            owner, "threshold", threshold, low=0.0, high=1.0
        )

    def objective(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns minus how far the label is ahead, if it is; see `Walk.objective`."""
        return tf.minimum(logit_margin(logits, labels, targeted=self.targeted), 0.0)

    def begin(self, images: tf.Tensor) -> State:
        """Returns Adam's moments and the first threshold."""
        return {
            "mean": tf.zeros_like(images),
            "square": tf.zeros_like(images),
            "threshold": tf.fill([tf.shape(images)[0]], self.threshold),
        }

    def move(self, state: State, look: Look, taken: tf.Tensor, key: tf.Tensor) -> State:
        """Returns the points with small changes undone; see `Walk.move`."""
        del key
        images, change = state["images"], state["point"] - state["images"]
        share = 1.0 / tf.cast(value_count(images), tf.float32)
        count = 2.0 * self.sigma * change / (tf.square(change) + self.sigma) ** 2
        gradient = share * count - look.gradient
        largest = per_image(norm_per_image(gradient, "linf"), images)
        # The first steps are full ones; the rate of a step is that of the one before.
        before = annealed(tf.maximum(taken - 1.0, 0.0), self.steps, 1.0, _LAST_RATE)
        step, (mean, square) = adam(
            tf.math.divide_no_nan(gradient, largest),
            (state["mean"], state["square"]),
            taken=taken,
            learning_rate=self.learning_rate * before,
        )
        point = tf.clip_by_value(state["point"] - step, 0.0, 1.0)
        rate = self.learning_rate * annealed(taken, self.steps, 1.0, _LAST_RATE)
        moved = _THRESHOLD_RATE * tf.where(look.succeeds, rate, -rate)
        threshold = tf.clip_by_value(state["threshold"] + moved, 0.0, 1.0)
        is_small = tf.abs(point - images) < per_image(threshold, images)
        return {
            **state,
            "point": tf.where(is_small, images, point),
            "mean": mean,
            "square": square,
            "threshold": threshold,
        }

"""PDPGD: proximal descent on a norm and a loss whose weights adapt."""

import math
from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks._adam import adam, adam_size
from keras_advdef.attacks._walk import Look, State, Walk
from keras_advdef.core.errors import checked_number
from keras_advdef.core.norms import shrink
from keras_advdef.core.predictions import logit_margin

# Weight of the norm over that of the loss at first, and its bounds on either side.
_FIRST_RATIO, _LEAST_RATIO = 0.01, 1e-6
# Shares of their first values to which the two step sizes fall.
_LAST_PRIMAL, _LAST_DUAL = 0.01, 0.1
_DUAL_STEP, _DUAL_MEMORY = 0.1, 0.9


@keras.saving.register_keras_serializable(package="keras_advdef")
class PDPGD(Walk):
    """Primal-dual proximal gradient descent on a norm under a constraint.

    The Lagrangian of "smallest norm, given that the image is adversarial" has a weight
    for the norm and one for the constraint. Each step descends on the constraint with
    Adam and then applies the proximal operator of the norm, scaled as Adam's step; the
    weight of the constraint rises after a miss and falls after a success (Matyasko and
    Chau 2021). The nearest adversarial point is kept. The proximal operator, which the
    authors iterate, is exact here.

    Args:
        epsilon: Number of at least 0. Largest norm that counts, in the units of
            `value_range`; `None` for no limit.
        norm: "linf" or "l1".
        steps: Steps, one forward and one backward pass each.
        learning_rate: First learning rate of Adam, for images in `[0, 1]`; falls to a
            hundredth.
        **kwargs: `targeted`, `training`, `precision` (of the backward passes),
            `eot_samples` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten()])
    >>> images = np.reshape([0.6, 0.3], (1, 2, 1, 1))
    >>> attack = keras_advdef.attacks.PDPGD(norm="linf", steps=200)
    >>> found = attack.search(model, images, [0], seed=0, verbose=0)
    >>> bool(0.15 < found.norms[0] < 0.16)
    True
    """

    norms: ClassVar[tuple[str, ...]] = ("linf", "l1")

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 500,
        learning_rate: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, steps=steps, **kwargs)
        self.learning_rate = checked_number(
            "PDPGD", "learning_rate", learning_rate, low=0.0, low_open=True
        )

    def objective(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns minus the softplus of how far the label is ahead, if it is."""
        ahead = logit_margin(logits, labels, targeted=self.targeted)
        return -tf.math.softplus(tf.maximum(-ahead, 0.0))

    def begin(self, images: tf.Tensor) -> State:
        """Returns Adam's moments, and the constraint's weight and its mean."""
        first = -math.log(_FIRST_RATIO)
        log_weight = tf.fill([tf.shape(images)[0]], first)
        return {
            "mean": tf.zeros_like(images),
            "square": tf.zeros_like(images),
            "log_weight": log_weight,
            "weight": tf.sigmoid(log_weight),
        }

    def move(self, state: State, look: Look, taken: tf.Tensor, key: tf.Tensor) -> State:
        """Returns the points after both half-steps; see `Walk.move`."""
        del key
        images = state["images"]
        rate = self.learning_rate * _LAST_PRIMAL ** (taken / self.steps)
        step, (mean, square) = adam(
            -look.gradient,
            (state["mean"], state["square"]),
            taken=taken,
            learning_rate=rate,
        )
        point = tf.clip_by_value(state["point"] - step, 0.0, 1.0)
        sizes = adam_size(square, taken=taken)
        amount = rate * (1.0 - state["weight"]) / state["weight"]
        nearer = shrink(point - images, amount, self.norm, weights=sizes)
        log_weight, weight = self._weights(state, look, taken)
        return {
            **state,
            "point": tf.clip_by_value(images + nearer, 0.0, 1.0),
            "mean": mean,
            "square": square,
            "log_weight": log_weight,
            "weight": weight,
        }

    def _weights(
        self, state: State, look: Look, taken: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the constraint's weight, as log-odds, and its running mean."""
        left = 1.0 - taken / max(self.steps - 1, 1)
        rate = _DUAL_STEP * (_LAST_DUAL + (1.0 - _LAST_DUAL) * left)
        bound = -math.log(_LEAST_RATIO)
        moved = state["log_weight"] + tf.where(look.succeeds, -rate, rate)
        log_weight = tf.clip_by_value(moved, -bound, bound)
        fresh = (1.0 - _DUAL_MEMORY) * tf.sigmoid(log_weight)
        return log_weight, _DUAL_MEMORY * state["weight"] + fresh

"""JSMA: raises the pair of pixels that helps the target most, again and again."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._pixel_pairs import best_pair
from keras_advdef.attacks._slopes import slopes
from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.minimal_attack import MinimalAttack
from keras_advdef.core import streams
from keras_advdef.core.errors import checked_number
from keras_advdef.core.image_layout import flattened, value_count
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import per_image
from keras_advdef.core.predictions import (
    full_precision_logits,
    logit_margin,
    rounding_margin,
)
from keras_advdef.core.random_numbers import fold_in

# Mapping a pixel to [0, 1] and back moves it by less than this share of the range.
_ROUNDING = 1e-6
# Keeps a share that is a whole number of pairs from being rounded below it.
_WHOLE = 1e-9


@keras.saving.register_keras_serializable(package="keras_advdef")
class JSMA(MinimalAttack):
    """Raises few pixels by much, two at a time, until the target class is reached.

    Each step takes, of all pairs of values that were not used yet, the one with the
    largest `-alpha * beta`, where `alpha > 0` is the sum of the two derivatives of
    the target's logit and `beta < 0` that of the sum of all other logits, and raises
    both by theta (Papernot et al. 2016). Untargeted, the target is the most likely
    wrong class of the clean image, and any wrong class ends the search.

    The norm is "l0", the number of changed values: channels of a pixel count for
    themselves.

    Args:
        epsilon: Largest number of values that may change; `None` for no other limit
            than `gamma`.
        theta: What values are raised by, above 0, in the units of `value_range`.
        gamma: Largest share of an image's values that may change.
        **kwargs: `targeted`, `training`, `precision` (of the backward passes) and
            `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     brightness = tf.reduce_sum(images, [1, 2, 3])
    ...     return tf.stack([4.0 - brightness, brightness], axis=1)
    >>> images = np.full((1, 2, 2, 1), 0.4)
    >>> attack = keras_advdef.attacks.jsma.JSMA(gamma=0.5)
    >>> found = attack.search(model, images, [0], verbose=0)
    >>> found.success.tolist(), found.norms.tolist()
    ([True], [2.0])
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)

    settled: ClassVar[dict[str, Any]] = {"norm": "l0", "eot_samples": 1}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        theta: float = 1.0,
        gamma: float = 0.145,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **self.with_settled(kwargs))
        self.theta = checked_number("JSMA", "theta", theta, low=0.0, low_open=True)
        self.gamma = checked_number(
            "JSMA", "gamma", gamma, low=0.0, high=1.0, low_open=True
        )

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`.

        Without an epsilon the number of steps depends on the size of the images, and
        one step is counted.
        """
        del classes, model
        steps = 1 if self.epsilon is None else int(self.epsilon // 2) + 1
        is_twice = self.precision != "float32"
        looks = steps + (not self.targeted)
        return Passes(looks * (1 + is_twice) + 2, 2 * steps)

    def radius(self, epsilon: Any) -> tf.Tensor:
        """Returns epsilon, a count that no value range scales."""
        return super().radius(epsilon) * self.value_range.span

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the images after the last pair; see `MinimalAttack.look_for`."""
        targets = self._targets(
            logits_fn, images, labels, fold_in(seed, streams.JSMA_TARGET)
        )
        theta = self.theta / self.value_range.span
        # In float64, in which a share of a whole number of pairs stays whole.
        values = tf.cast(value_count(images), tf.float64)
        steps = tf.cast(self.gamma * values / 2.0 + _WHOLE, tf.int32)

        def body(
            index: Any, points: tf.Tensor, unused: tf.Tensor, active: tf.Tensor
        ) -> tuple[Any, ...]:
            key = fold_in(seed, index)
            logits, rise, fall = _derivatives(logits_fn, points, targets, key)
            ahead = logit_margin(logits, labels, targeted=self.targeted)
            free = unused & (points < 1.0)
            pair = best_pair(*map(flattened, (rise, -fall, free)))
            # One pair more must not exceed epsilon.
            affordable = 2.0 * tf.cast(index + 1, tf.float32) <= epsilon
            active &= (ahead < rounding_margin(logits)) & affordable
            active &= tf.reduce_any(pair, axis=1)
            raised = tf.reshape(pair, tf.shape(points)) & per_image(active, points)
            higher = tf.minimum(points + theta, 1.0)
            points = tf.where(raised, higher, points)
            return index + 1, points, unused & ~raised, active

        unused = tf.ones_like(images, tf.bool)
        active = tf.ones_like(labels, tf.bool)
        return tf.while_loop(
            lambda index, points, unused, active: (
                (index < steps) & tf.reduce_any(active)
            ),
            body,
            (tf.constant(0), images, unused, active),
            parallel_iterations=1,
        )[1]

    def _targets(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the classes to reach: the labels, or the most likely wrong ones."""
        if self.targeted:
            return labels
        logits = full_precision_logits(logits_fn, images, key)
        others = tf.where(_is_class(logits, labels), tf.float32.min, logits)
        return tf.argmax(others, axis=1, output_type=labels.dtype)

    def __call__(
        self,
        model: Any,
        images: Any,
        labels: Any = None,
        *,
        target_labels: Any = None,
        epsilon: Any = None,
        seed: Any = None,
    ) -> tf.Tensor:
        """Returns adversarial images for a batch of tensors; see `Attack.__call__`."""
        images = tf.cast(tf.convert_to_tensor(images), tf.float32)
        adversarial = super().__call__(
            model,
            images,
            labels,
            target_labels=target_labels,
            epsilon=epsilon,
            seed=seed,
        )
        return self._restored(adversarial, images)

    def generate(
        self, model: Any, images: Any, labels: Any = None, **options: Any
    ) -> np.ndarray:
        """Returns adversarial images for arrays; see `Attack.generate`.

        Values that were not chosen come back to the bit, whatever the range.

        Args:
            model: A Keras model or a function from images to logits.
            images: Array `(count, rows, cols, channels)` in `value_range`.
            labels: True labels; `None` for the predictions.
            **options: As in `Attack.generate`.

        Returns:
            Float32 array of the shape of `images`.
        """
        adversarial = super().generate(model, images, labels, **options)
        clean = np.asarray(images, np.float32)
        return self._restored(adversarial, clean).numpy()

    def _restored(self, adversarial: Any, images: Any) -> tf.Tensor:
        """Undoes the rounding of other ranges, which would count as a change."""
        if self.value_range.is_unit:
            return tf.convert_to_tensor(adversarial)
        same = tf.abs(adversarial - images) <= _ROUNDING * self.value_range.span
        return tf.where(same, images, adversarial)


def _derivatives(
    logits_fn: LogitsFunction, points: tf.Tensor, targets: tf.Tensor, key: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns logits, and derivatives of the target's logit and of the others' sum."""
    kept: list[tf.Tensor] = []

    def outputs(images: tf.Tensor) -> tf.Tensor:
        logits = full_precision_logits(logits_fn, images, key)
        kept.append(logits)
        is_target = _is_class(logits, targets)
        own = tf.reduce_sum(tf.where(is_target, logits, 0.0), axis=1)
        others = tf.reduce_sum(tf.where(is_target, 0.0, logits), axis=1)
        return tf.stack([own, others], axis=1)

    _, (rise, fall) = slopes(outputs, points, scale=logits_fn.gradient_scale)
    return kept[0], rise, fall


def _is_class(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    return tf.one_hot(classes, logits.shape[1], on_value=True, off_value=False)

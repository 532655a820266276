"""MinimalAttack: base of the attacks that search for the smallest perturbation."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_advdef.attacks._job import Job
from keras_advdef.attacks.attack import Attack
from keras_advdef.core import streams
from keras_advdef.core.image_source import load_images
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import norm_per_image, per_image
from keras_advdef.core.random_numbers import fold_in

# Float32 rounding of the images must not cost a success at exactly epsilon.
_SLACK = 1.0 + 1e-6
# Mapping a pixel to [0, 1] and back moves it by less than this share of the range.
_ROUNDING = 1e-6


class MinimalAttackResult(NamedTuple):
    """What a `MinimalAttack` found, for each image.

    Args:
        images: Adversarial images; the clean ones where none was found.
        norms: Norms of the perturbations in the units of `value_range` (a count of
            values for "l0"), infinite where none was found, `(batch,)`.
        success: Whether one was found within epsilon, `(batch,)`.

    Example:

    >>> found = keras_advdef.attacks.MinimalAttackResult(
    ...     np.zeros((1, 2, 2, 1)), [0.5], [True])
    >>> found.norms
    [0.5]
    """

    images: Any
    norms: Any
    success: Any


class MinimalAttack(Attack):
    """Base of attacks that search for the nearest misclassified image.

    A subclass writes `look_for`. The base checks what it found in float32 and, for a
    random model, on fresh draws; returns an image unchanged if it is misclassified
    already or if nothing was found within epsilon. Without an epsilon, perturbations
    may have any size.

    Args:
        epsilon: Number of at least 0. Largest norm that counts, in the units of
            `value_range`; `None` for no limit.
        **kwargs: `norm`, the one to make small, `targeted`, `training`, `precision`,
            `eot_samples` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> attack = keras_advdef.attacks.DeepFool()
    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> images = np.full((1, 2, 2, 1), 0.5, "float32")
    >>> found = attack.search(model, images, seed=0, verbose=0)
    >>> found.norms.shape, found.success.tolist()
    ((1,), [True])
    """

    def __init__(self, epsilon: float | None = None, **kwargs: Any) -> None:
        super().__init__(epsilon, **kwargs)

    def look_for(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns candidates in `[0, 1]`, of any norm; arguments as in `perturb`.

        Args:
            logits_fn: The attacked model.
            images: Clean images, float32 in `[0, 1]`.
            labels: Integer labels `(batch,)` to leave or, if targeted, to reach.
            epsilon: Largest norm that counts, infinite for no limit.
            seed: Key for all draws, int64 of shape `(2,)`.
        """
        raise NotImplementedError(f"`{type(self).__name__}` must write `look_for`.")

    def found(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> MinimalAttackResult:
        """Returns the candidates that succeed within epsilon, on the `[0, 1]` scale.

        Args:
            logits_fn: The attacked model.
            images: Clean images, float32 in `[0, 1]`.
            labels: Integer labels `(batch,)` to leave or, if targeted, to reach.
            epsilon: Largest norm that counts, infinite for no limit.
            seed: Key for all draws, int64 of shape `(2,)`.
        """
        before = self.confirm(
            logits_fn, images, labels, fold_in(seed, streams.CLEAN_SUCCESS)
        )
        candidates = self.look_for(logits_fn, images, labels, epsilon, seed)
        candidates = tf.where(per_image(before, images), images, candidates)
        success = before | self.confirm(logits_fn, candidates, labels, seed)
        return self.within(images, candidates, success, epsilon)

    def within(
        self,
        images: tf.Tensor,
        candidates: tf.Tensor,
        success: tf.Tensor,
        epsilon: tf.Tensor,
    ) -> MinimalAttackResult:
        """Returns the successful candidates within epsilon, and the other images.

        Args:
            images: Clean images, float32 in `[0, 1]`.
            candidates: What was found for them.
            success: Whether each candidate succeeds, `(batch,)`.
            epsilon: Largest norm that counts, infinite for no limit.
        """
        norms = norm_per_image(candidates - images, self.norm)
        success &= norms <= epsilon * _SLACK
        adversarial = tf.where(per_image(success, images), candidates, images)
        return MinimalAttackResult(
            adversarial, tf.where(success, norms, np.inf), success
        )

    def perturb(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns adversarial images in `[0, 1]`; see `Attack.perturb`."""
        return self.found(logits_fn, images, labels, epsilon, seed).images

    def search(
        self,
        model: Any,
        images: Any,
        labels: Any = None,
        *,
        target_labels: Any = None,
        epsilon: float | None = None,
        mask: Any = None,
        seed: int | None = None,
        batch_size: int = 128,
        verbose: str | int = "auto",
    ) -> MinimalAttackResult:
        """Returns adversarial images with the norm and the success of each.

        Success is measured on the returned images, in float32 and, for a random model,
        on fresh draws.

        Args:
            model: A Keras model or a function from images to logits.
            images: Array `(count, rows, cols, channels)` in `value_range`.
            labels: True labels, integer or one-hot; `None` for the predictions.
            target_labels: The classes to reach, for a targeted attack.
            epsilon: Overrides the constructor's.
            mask: Which pixels may change; see `generate`.
            seed: Integer that fixes every draw; `None` for fresh ones.
            batch_size: Images per compiled call.
            verbose: 0 for silence, 1 or "auto" for a progress bar.

        Returns:
            A `MinimalAttackResult` of arrays.
        """
        if labels is None and not self.targeted:
            owner = type(self).__name__
            job = Job(
                self,
                model,
                load_images(owner, images).images,
                None,
                batch_size=batch_size,
                seed=seed,
            )
            labels = job.labels
        adversarial = self.generate(
            model,
            images,
            labels,
            target_labels=target_labels,
            epsilon=epsilon,
            mask=mask,
            seed=seed,
            batch_size=batch_size,
            verbose=verbose,
        )
        goal = sparse_labels(target_labels if self.targeted else labels).numpy()
        reached = self.predict(model, adversarial, seed=seed, batch_size=batch_size)
        success = (reached == goal) if self.targeted else (reached != goal)
        clean = np.asarray(images, np.float32)
        norms = norm_per_image(tf.constant(adversarial - clean), self.norm).numpy()
        return MinimalAttackResult(
            adversarial, np.where(success, norms, np.inf), success
        )

    def same(self, found: Any, images: Any) -> Any:
        """Returns which values differ by rounding; see `Attack.same`."""
        if self.norm != "l0" or self.value_range.is_unit:
            return None
        # The rounding of other ranges would count as a change.
        return abs(found - images) <= _ROUNDING * self.value_range.span

    def radius(self, epsilon: Any) -> tf.Tensor:
        """Returns epsilon on the `[0, 1]` scale, infinite if there is none.

        In "l0" it is a count, which does not depend on the value range.
        """
        if epsilon is None and self.epsilon is None:
            return tf.constant(np.inf, tf.float32)
        radius = super().radius(epsilon)
        return radius * self.value_range.span if self.norm == "l0" else radius

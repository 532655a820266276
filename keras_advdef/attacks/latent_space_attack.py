"""LatentSpaceAttack: searches a generator's images for a misclassified one."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._adam import adam
from keras_advdef.attacks._draws import mean_over_draws
from keras_advdef.attacks._success import stronger
from keras_advdef.attacks.attack import Attack, Passes
from keras_advdef.core.errors import checked_integer, checked_number, invalid
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.keras_private import flat_layers, preserve_losses
from keras_advdef.core.logits import LogitsFunction, LogitsModel
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.model_view import unwrap_view
from keras_advdef.core.norms import project
from keras_advdef.core.predictions import logit_margin, rounding_margin
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers.generative_projection import GenerativeProjection

# Streams of a run's key.
_START, _DESCENT, _JUDGE = 0, 1, 2


@keras.saving.register_keras_serializable(package="keras_advdef")
class LatentSpaceAttack(Attack):
    """Attacks a classifier behind a projection with images that the projection keeps.

    It minimises `||G(z) - x||^2 + constant * max(confidence - margin, 0)` over latents
    z with Adam, where the logit margin is that of the best wrong class on `G(z)`; z
    starts where the generator comes nearest to x. A perfect projection returns `G(z)`
    unchanged, so it is no obstacle (Athalye, Carlini and Wagner 2018, against
    Defense-GAN). Of all points met it keeps the nearest misclassified one, or else the
    one of the smallest objective.

    The result is the point of the ball nearest to that image. After each run, its
    success is measured on the whole model, search included; the strongest run counts.

    It takes any model that holds a `GenerativeProjection`, such as `DefenseGAN`, if
    only the range of the images changes before that layer. Other defences in the model
    enter the measurement alone.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        steps: Steps of the search for z's start, and steps of Adam.
        restarts: Independent runs.
        learning_rate: Learning rate of Adam, in units of z.
        constant: Number above 0. Weight of the logit margin against the squared l2
            distance of pixels in `[0, 1]`.
        confidence: Logit margin that is enough, at least 0. With 0, the model's own
            search may turn the image into one that it gets right.
        **kwargs: `norm`, `targeted`, `training`, `precision` (of the classifier's
            passes), `eot_samples` (draws over which the measurement is averaged) and
            `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds; in the call, if the model
            holds no `GenerativeProjection`.

    Example:

    >>> generator = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(16, activation="sigmoid"),
    ...     keras.layers.Reshape((4, 4, 1))])
    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.models.DefenseGAN(
    ...     generator, classifier, steps=5, restarts=2)
    >>> attack = keras_advdef.attacks.LatentSpaceAttack(0.3, steps=5, restarts=2)
    >>> images = np.full((2, 4, 4, 1), 0.5, "float32")
    >>> attack.generate(model, images, np.array([0, 1]), verbose=0).shape
    (2, 4, 4, 1)
    """

    takes_mask = False

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 100,
        restarts: int = 4,
        learning_rate: float = 0.05,
        constant: float = 1.0,
        confidence: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **kwargs)
        owner = type(self).__name__
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.restarts = checked_integer(owner, "restarts", restarts, low=1)
        self.learning_rate = checked_number(
            owner, "learning_rate", learning_rate, low=0.0, low_open=True
        )
        self.constant = checked_number(
            owner, "constant", constant, low=0.0, low_open=True
        )
        self.confidence = checked_number(owner, "confidence", confidence, low=0.0)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs, in passes of the attacked model.

        A pass of the model runs the generator many times. This attack runs it a few
        times, each of which counts as its share of such a pass; without a model, as one
        pass.

        Args:
            classes: Number of classes of the model.
            model: The attacked model, which holds a `GenerativeProjection`.
        """
        del classes
        share = 1
        if model is not None:
            projection = checked_projection(model)
            share = projection.steps * projection.restarts
        # The search for the start, and the descent from it.
        searched = 2 * self.steps / share
        forward = math.ceil(self.restarts * (searched + self.eot_samples))
        return Passes(forward, math.ceil(self.restarts * searched))

    def perturb(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns adversarial images in `[0, 1]`; see `Attack.perturb`."""
        projection = checked_projection(logits_fn.model)
        classifier_fn = LogitsFunction(
            # A perfect projection leaves the generator's images unchanged.
            dataclasses.replace(logits_fn.view, bypass_defences=True),
            training=logits_fn.training,
            precision=logits_fn.precision,
            value_range=logits_fn.value_range,
        )

        def run(
            index: int | tf.Tensor, strongest: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            key = fold_in(seed, index)
            start = projection.search(
                images, fold_in(key, _START), steps=self.steps, restarts=1
            )
            descent = draw_scope(fold_in(key, _DESCENT))
            with preserve_losses(projection.generator), descent:
                latents = self._descended(
                    projection, classifier_fn, images, labels, start.latents
                )
                made = projection.generate(latents)
            made = tf.where(tf.math.is_finite(made), made, images)
            candidate = project(made, images, epsilon, self.norm)
            ahead = self._measured(
                logits_fn.full_precision, candidate, labels, fold_in(key, _JUDGE)
            )
            return stronger((candidate, ahead, ahead > 0.0), strongest)

        nothing = tf.zeros_like(labels, tf.float32)
        state = (images, nothing - np.inf, tf.zeros_like(labels, tf.bool))
        return fixed_loop(run, state, self.restarts, unroll=False)[0]

    def _descended(
        self,
        projection: GenerativeProjection,
        classifier_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        latents: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the best latents of one descent."""
        scale = classifier_fn.gradient_scale
        is_coarse = classifier_fn.full_precision is not classifier_fn
        rounding = rounding_margin(classifier_fn(images), is_coarse=is_coarse)
        wanted = self.confidence + rounding

        def losses(latents: tf.Tensor) -> tuple[tf.Tensor, Any]:
            made = projection.generate(latents)
            squares = tf.reduce_sum(tf.square(made - images), axis=[1, 2, 3])
            missing = wanted - self._ahead(classifier_fn, made, labels)
            loss = squares + self.constant * tf.maximum(missing, 0.0)
            return loss, (squares, missing <= 0.0)

        def met(
            latents: tf.Tensor, loss: tf.Tensor, extra: Any, best: Any
        ) -> tuple[tf.Tensor, ...]:
            squares, success = extra
            return stronger((latents, -tf.where(success, squares, loss), success), best)

        def step(
            index: int | tf.Tensor, state: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            latents, moments, best = state
            loss, extra, gradient = input_gradient(losses, latents, scale=scale)
            best = met(latents, loss, extra, best)
            moved, moments = adam(
                gradient,
                moments,
                taken=tf.cast(index, tf.float32),
                learning_rate=self.learning_rate,
            )
            return latents - moved, moments, best

        zero = tf.zeros_like(latents)
        none = tf.zeros_like(labels, tf.float32) - np.inf
        best = latents, none, tf.zeros_like(labels, tf.bool)
        state = latents, (zero, zero), best
        latents, _, best = fixed_loop(step, state, self.steps, unroll=False)
        return met(latents, *losses(latents), best)[0]

    def _measured(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the mean logit margin of the whole model over draws, `(batch,)`."""

        def draw(sample: int | tf.Tensor) -> tuple[tf.Tensor, ...]:
            with draw_scope(fold_in(key, sample)):
                return (self._ahead(logits_fn, images, labels),)

        return mean_over_draws(draw, self.eot_samples)[0]

    def _ahead(
        self, logits_fn: LogitsFunction, images: tf.Tensor, labels: tf.Tensor
    ) -> tf.Tensor:
        """Returns the logit margin of the wanted class, also over "flagged"."""
        logits, model = logits_fn(images), logits_fn.model
        if not (isinstance(model, LogitsModel) and model.rejects):
            return logit_margin(logits, labels, targeted=self.targeted)
        own, flagged = logits[:, :-1], logits[:, -1]
        unnoticed = tf.reduce_max(own, axis=1) - flagged
        return tf.minimum(logit_margin(own, labels, targeted=self.targeted), unnoticed)

    def __str__(self) -> str:
        return f"LatentSpaceAttack-{self.steps}" + (
            f" x {self.restarts}" * (self.restarts > 1)
        )


def projection_of(model: Any) -> GenerativeProjection | None:
    """Returns the first projection onto a generator inside a model, or `None`.

    Args:
        model: A Keras model, a function or a `ModelView`.

    Example:

    >>> from keras_advdef.attacks.latent_space_attack import projection_of
    >>> projection_of(keras.Sequential([keras.layers.Flatten()])) is None
    True
    """
    model = unwrap_view(model)
    layers = flat_layers(model) if isinstance(model, keras.layers.Layer) else []
    return next(
        (each for each in layers if isinstance(each, GenerativeProjection)), None
    )


def checked_projection(model: Any) -> GenerativeProjection:
    """Returns the projection inside a model, or raises if there is none.

    Args:
        model: A Keras model or a `ModelView` of one.

    Raises:
        ValueError: If the model holds no `GenerativeProjection`.

    Example:

    >>> from keras_advdef.attacks.latent_space_attack import checked_projection
    >>> generator = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(4), keras.layers.Reshape((2, 2, 1))])
    >>> layer = keras_advdef.layers.GenerativeProjection(generator)
    >>> checked_projection(keras.Sequential([layer])) is layer
    True
    """
    projection = projection_of(model)
    if projection is None:
        rule = "a model with a `GenerativeProjection` inside, such as a `DefenseGAN`"
        raise invalid("LatentSpaceAttack", "model", rule, unwrap_view(model))
    return projection

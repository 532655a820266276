"""denoise: a denoiser before a classifier that was not trained on noise."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import (
    checked_instance,
    checked_integer,
    checked_number,
    invalid,
)
from keras_advdef.core.image_source import load_images
from keras_advdef.core.logits import classifier_logits
from keras_advdef.core.progress import Progress, progress_of
from keras_advdef.core.random_numbers import SEED_LIMIT, fold_in, make_key, normal
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.value_range import ValueRange


def denoise(
    classifier: keras.Model,
    train_data: Any,
    *,
    stddev: float,
    value_range: tuple[float, float] = (0.0, 1.0),
    depth: int = 6,
    filters: int = 32,
    stability: float = 1.0,
    epochs: int = 10,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    seed: int = 0,
    verbose: str | int | Progress = "auto",
) -> keras.Sequential:
    """Returns a classifier behind a denoiser, for certificates without training it.

    The denoiser is a residual net like DnCNN. It learns to undo Gaussian noise, by the
    squared error, and to keep the class that the classifier gives the clean image
    (denoised smoothing, Salman et al. 2020). The classifier is frozen; labels are not
    used.

    By itself the result is no defence: an attack passes through a denoiser as through
    any layers. Only the vote of `models.SmoothedClassifier` over noisy copies, with the
    same `stddev`, certifies anything.

    Args:
        classifier: A `keras.Model` from images to logits or probabilities.
        train_data: Images `(count, rows, cols, channels)` in `value_range`, as bytes or
            floats, a pair `(images, labels)`, or a data set of batches.
        stddev: Number above 0. Standard deviation of the noise, in the units of
            `value_range`.
        value_range: Pair `(low, high)`, the range of the pixels.
        depth: Convolutions of the denoiser, at least 2.
        filters: Channels between them, at least 1.
        stability: Number of at least 0. Weight of the cross-entropy towards the
            classifier's own classes, beside the squared error in units of that of the
            noise.
        epochs: Passes over the images, at least 1.
        learning_rate: Of Adam at the start; it falls to zero along a cosine.
        batch_size: Images in a step.
        seed: Integer in `[0, 2**31)` that fixes every draw.
        verbose: 0 for silence; 1 or "auto" for a line per epoch; or a `Progress`.

    Returns:
        `keras.Sequential([denoiser, classifier])`.

    Raises:
        TypeError: If the classifier is not a `keras.Model`.
        ValueError: If an argument is out of its range, or the classifier takes images
            of another shape.

    Example:

    >>> images = np.random.default_rng(0).uniform(size=(20, 4, 4, 1))
    >>> net = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> model = keras_advdef.recipes.denoise(
    ...     net, images, stddev=0.25, epochs=1, verbose=0)
    >>> smoothed = keras_advdef.models.SmoothedClassifier(model, stddev=0.25)
    """
    owner = "denoise"
    checked_instance(owner, "classifier", classifier, keras.Model)
    stddev = checked_number(owner, "stddev", stddev, low=0.0, low_open=True)
    stability = checked_number(owner, "stability", stability, low=0.0)
    rate = checked_number(owner, "learning_rate", learning_rate, low=0.0, low_open=True)
    depth = checked_integer(owner, "depth", depth, low=2)
    filters = checked_integer(owner, "filters", filters, low=1)
    epochs = checked_integer(owner, "epochs", epochs, low=1)
    size = checked_integer(owner, "batch_size", batch_size, low=1)
    seed = checked_integer(owner, "seed", seed, low=0, high=SEED_LIMIT - 1)
    pixels = ValueRange.parse(owner, value_range)
    if isinstance(train_data, tuple):
        train_data = train_data[0]
    images = np.asarray(load_images(owner, train_data, argument="train_data").images)
    _check_shape(classifier, images)
    denoiser = _denoiser(
        images.shape[1:], pixels, depth=depth, filters=filters, seed=seed
    )
    size = min(size, len(images))
    steps = epochs * (len(images) // size)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(rate, steps)
    )
    classifier.trainable = False
    step = _step(denoiser, classifier, optimizer, stddev=stddev, stability=stability)
    progress, key = progress_of(verbose), make_key(seed)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        rows = order.permutation(len(images))[: len(images) // size * size]
        losses = []
        for number, chosen in enumerate(rows.reshape(-1, size)):
            clean = tf.constant(images[chosen], tf.float32)
            place = epoch * (steps // epochs) + number
            losses.append(step(clean, fold_in(key, place)))
        progress.line(f"Epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}.")
    return keras.Sequential([denoiser, classifier])


def _check_shape(classifier: keras.Model, images: np.ndarray) -> None:
    """Raises unless the classifier takes what the denoiser returns."""
    if images.ndim != 4 or not len(images):
        raise invalid(
            "denoise", "train_data", "images (count, rows, cols, channels)", images
        )
    wanted = getattr(classifier, "input_shape", None) if classifier.built else None
    if not isinstance(wanted, tuple):
        return
    found = images.shape
    fits = len(wanted) == 4 and all(
        side in (None, own) for side, own in zip(wanted[1:], found[1:], strict=True)
    )
    if not fits:
        rule = f"a model of images of shape {found[1:]}, as the denoiser returns them"
        raise invalid("denoise", "classifier", rule, wanted)


def _denoiser(
    shape: tuple[int, ...],
    pixels: ValueRange,
    *,
    depth: int,
    filters: int,
    seed: int,
) -> keras.Model:
    """Returns a residual net that starts as the identity."""
    images = keras.Input(shape)
    hidden = keras.layers.Rescaling(1 / pixels.span, -pixels.low / pixels.span)(images)
    for number in range(depth - 1):
        start = keras.initializers.HeNormal(seed=seed + number)
        hidden = keras.layers.Conv2D(
            filters, 3, padding="same", activation="relu", kernel_initializer=start
        )(hidden)
    noise = keras.layers.Conv2D(
        shape[-1], 3, padding="same", kernel_initializer="zeros"
    )(hidden)
    noise = keras.layers.Rescaling(pixels.span)(noise)
    outputs = keras.layers.Subtract()([images, noise])
    return keras.Model(images, outputs, name="denoiser")


def _step(
    denoiser: keras.Model,
    classifier: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    stddev: float,
    stability: float,
) -> Any:
    """Returns a compiled step of training that moves the denoiser only."""
    weights = denoiser.trainable_variables
    optimizer.build(weights)

    @tf.function(autograph=False)
    def step(clean: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        noise = stddev * tf.reshape(normal(key, clean.shape), clean.shape)
        with draw_scope(key):
            labels = tf.argmax(classifier_logits(classifier, clean), axis=-1)
            with tf.GradientTape() as tape:
                found = denoiser(clean + noise, training=True)
                loss = tf.reduce_mean((found - clean) ** 2) / stddev**2
                if stability:
                    logits = classifier_logits(classifier, found)
                    apart = tf.nn.sparse_softmax_cross_entropy_with_logits(
                        labels, logits
                    )
                    loss += stability * tf.reduce_mean(apart)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights, strict=True)
        )
        return loss

    return step

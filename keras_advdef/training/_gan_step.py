"""The gradient penalty of Wasserstein critics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.keras_training import scale_loss_for_distribution
from keras_advdef.core.random_numbers import fold_in, normal, uniform
from keras_advdef.core.value_range import ValueRange, checked_images
from keras_advdef.training._finite_step import FiniteStep

# The square root has no derivative at 0; at a smaller square the norm counts as 0.
_TINY = 1e-24


def gradient_penalty(critic: Callable[[Any], Any], points: tf.Tensor) -> tf.Tensor:
    """Returns how far the slope of a critic is from 1 at each point, squared.

    With the gradient of a point's score in that point, it is
    `(norm(gradient) - 1) ** 2`. The l2 norm runs over all axes but the first: rows,
    columns and channels together. Gradients with respect to the critic's weights pass.

    Args:
        critic: Function from points to one score each, `(batch, 1)` or `(batch,)`.
        points: Float32 tensor of shape `(batch, ...)`.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    >>> points = tf.zeros((4, 2, 2, 1))
    >>> slope_of_four = lambda points: 2.0 * tf.reduce_sum(points, [1, 2, 3])
    >>> keras_advdef.training._gan_step.gradient_penalty(slope_of_four, points)
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([9., 9., 9., 9.],
    dtype=float32)>
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        # A point's score depends on no other point, so one sum serves them all.
        total = tf.reduce_sum(tf.cast(critic(points), tf.float32))
    gradients = tape.gradient(total, points)
    axes = list(range(1, points.shape.rank))
    squares = tf.reduce_sum(tf.square(gradients), axis=axes)
    return tf.square(tf.sqrt(tf.maximum(squares, _TINY)) - 1.0)


def made_images(
    generator: keras.Model, count: tf.Tensor, key: tf.Tensor, *, training: bool
) -> tf.Tensor:
    """Returns float32 images of latents drawn from N(0, 1).

    Args:
        generator: Model from latents to images.
        count: Number of images.
        key: Fixes the latents.
        training: Whether the generator is called as in training.
    """
    latents = normal(key, [count, generator.input_shape[-1]])
    return tf.cast(generator(latents, training=training), tf.float32)


def scores(critic: keras.Model, images: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Returns a critic's float32 scores, `(batch,)`.

    Args:
        critic: Model from images to `(batch, 1)`.
        images: The images.
        training: Whether the critic is called as in training.
    """
    return tf.cast(tf.reshape(critic(images, training=training), [-1]), tf.float32)


def critic_losses(
    generator: keras.Model,
    critic: keras.Model,
    images: tf.Tensor,
    key: tf.Tensor,
    *,
    weight: float,
    training: bool,
) -> dict[str, tf.Tensor]:
    """Returns means over real images and as many made ones, by name.

    Args:
        generator: What makes images; it gets no gradient.
        critic: What tells them apart.
        images: Real images, float32.
        key: Fixes the latents, and the places between real and made images where the
            slope is measured.
        weight: Of the gradient penalty.
        training: Whether the nets are called as in training.

    Returns:
        "critic_loss"; "gradient_penalty", without its weight; "distance", of the mean
        scores of real and made images; "made", the latter alone.
    """
    count = tf.shape(images)[0]
    made = made_images(generator, count, fold_in(key, 0), training=training)
    made = tf.stop_gradient(made)
    shares = uniform(fold_in(key, 1), [count, 1, 1, 1])
    between = made + shares * (images - made)
    penalty = tf.reduce_mean(
        gradient_penalty(lambda each: scores(critic, each, training=training), between)
    )
    found = scores(critic, tf.concat([images, made], axis=0), training=training)
    of_made = tf.reduce_mean(found[count:])
    distance = tf.reduce_mean(found[:count]) - of_made
    return {
        "critic_loss": weight * penalty - distance,
        "gradient_penalty": penalty,
        "distance": distance,
        "made": of_made,
    }


def scaling_where_needed(
    optimizer: keras.optimizers.Optimizer, nets: Sequence[keras.Model]
) -> keras.optimizers.Optimizer:
    """Returns an optimizer that scales the loss if a net computes in float16.

    Args:
        optimizer: The optimizer.
        nets: All nets that the loss passes.
    """
    layers = [layer for net in nets for layer in flat_layers(net)]
    is_half = any(layer.compute_dtype == "float16" for layer in layers)
    kind = keras.optimizers.LossScaleOptimizer
    return kind(optimizer) if is_half and not isinstance(optimizer, kind) else optimizer


def update_net(
    optimizer: Any,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    *,
    net: keras.Model,
    step: FiniteStep,
) -> None:
    """Moves the trainable weights of one net, and no other, along a gradient.

    Losses of the net's own layers are added; of several replicas each gives its share.

    Args:
        optimizer: A built optimizer of the net's trainable weights.
        tape: What watched the loss, still open.
        loss: Mean over the images of this replica.
        net: The net.
        step: The running step of training, which looks at loss and gradients.
    """
    with tape:
        own = [tf.cast(each, loss.dtype) for each in net.losses]
        total = scale_loss_for_distribution(tf.add_n([loss, *own]))
        scaled = optimizer.scale_loss(total)
    variables = net.trainable_variables
    gradients = tape.gradient(scaled, variables)
    step.look(total, gradients, optimizer)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def check_images(owner: str, x: Any, image_shape: tuple[int, int, int]) -> None:
    """Raises if what `fit` was given is known not to be images of a shape.

    Args:
        owner: Name of the class that trains.
        x: Array, `tf.data.Dataset` or whatever else Keras takes, which passes.
        image_shape: Rows, columns and channels.

    Raises:
        ValueError: If the shape is another one, or pixels of an array lie outside
            `[0, 1]`.
    """
    if isinstance(x, tf.data.Dataset):
        x = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
        fits = x.shape[1:].is_compatible_with(image_shape)
    elif isinstance(x, (np.ndarray, tf.Tensor)):
        fits = checked_images(owner, x, ValueRange()).shape[1:] == image_shape
    else:
        return
    if not fits:
        sizes = ", ".join(map(str, image_shape))
        rule = f"as the generator's, (batch, {sizes})"
        raise invalid(owner, "images", rule, x)


def images_of(data: Any, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Returns the float32 images of a batch, without labels.

    Args:
        data: What Keras hands to a training step.
        image_shape: Rows, columns and channels; a data set may not tell them.
    """
    images = tf.cast(keras.utils.unpack_x_y_sample_weight(data)[0], tf.float32)
    return tf.ensure_shape(images, (None, *image_shape))


def in_parts(images: tf.Tensor, count: int) -> tf.Tensor:
    """Returns a batch in parts of one size, `(count, size, ...)`.

    Args:
        images: Tensor `(batch, ...)`; its first ones come again at the end where the
            batch does not divide.
        count: Number of parts.
    """
    total = tf.shape(images)[0]
    size = (total + count - 1) // count
    places = tf.range(count * size) % total
    return tf.reshape(tf.gather(images, places), [count, size, *images.shape[1:]])


_NOT_COMPILED = ("loss", "loss_weights", "metrics", "weighted_metrics")


def check_no_loss(owner: str, arguments: Mapping[str, Any]) -> None:
    """Raises if `compile` was given a loss or metrics.

    Args:
        owner: Name of the class that is compiled.
        arguments: Those of `compile` by name.

    Raises:
        ValueError: If one of them is a loss or metrics.
    """
    for name in _NOT_COMPILED:
        if arguments.get(name) is not None:
            rule = "left out, since the critic is the loss"
            raise invalid(owner, name, rule, arguments[name])


def optimizer_pair(
    owner: str, optimizer: Any, critic_optimizer: Any
) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers of a generator and of its critic.

    Args:
        owner: Name of the class that is compiled.
        optimizer: What `keras.optimizers.get` takes; `None` for the paper's Adam.
        critic_optimizer: The same; `None` for a copy of `optimizer` as it was
            configured.

    Raises:
        ValueError: If both are the same object.
    """
    if optimizer is None:
        optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.9)
    optimizer = keras.optimizers.get(optimizer)
    if critic_optimizer is None:
        critic_optimizer = keras.optimizers.serialize(optimizer)
    critic_optimizer = keras.optimizers.get(critic_optimizer)
    if critic_optimizer is optimizer:
        rule = "another object than `optimizer`"
        raise invalid(owner, "critic_optimizer", rule, critic_optimizer)
    return [optimizer, critic_optimizer]

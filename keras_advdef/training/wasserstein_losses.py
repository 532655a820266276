"""What a Wasserstein critic and its generator minimise, as numbers for one batch."""

import keras
import tensorflow as tf

from keras_advdef.core.gradient_penalty import gradient_penalty
from keras_advdef.core.random_numbers import fold_in, normal, uniform


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

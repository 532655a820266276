"""Gradients of several outputs of a model from one forward pass."""

from collections.abc import Callable

import tensorflow as tf


def slopes(
    function: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    *,
    scale: float = 1.0,
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Returns outputs and the gradient of each with respect to its image.

    Takes one backward pass per output. Can be differentiated again, also with respect
    to the weights. Entries that are not finite become zero.

    Args:
        function: Maps images to float32 outputs `(batch, count)`, image by image, with
            a static count.
        images: Float32 tensor of shape `(batch, ...)`.
        scale: Factor on the outputs, taken out of the gradients again; keeps the small
            gradients of a float16 model from vanishing.

    Returns:
        The outputs and `count` gradients of the shape of `images`.

    Raises:
        ValueError: If an output does not depend on the images.

    Example:

    >>> matrix = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    >>> _, (first, second) = keras_advdef.attacks._slopes.slopes(
    ...     lambda x: x @ matrix, tf.zeros((1, 2)))
    >>> first.numpy().tolist(), second.numpy().tolist()
    ([[1.0, 3.0]], [[2.0, 4.0]])
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(images)
        outputs = function(images)
        sums = [scale * tf.reduce_sum(column) for column in tf.unstack(outputs, axis=1)]
    return outputs, tuple(_finite(tape.gradient(each, images), scale) for each in sums)


def _finite(gradient: tf.Tensor | None, scale: float) -> tf.Tensor:
    if gradient is None:
        raise ValueError(
            "`slopes` expects `function` to depend on the images. Received: an output "
            "without any gradient. Write non-differentiable steps of the model with "
            "`straight_through`, or use an attack that needs no gradient."
        )
    gradient = tf.convert_to_tensor(gradient)
    if scale != 1.0:
        gradient /= scale
    return tf.where(tf.math.is_finite(gradient), gradient, 0.0)

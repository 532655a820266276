"""Derivatives with respect to images, and forward values with another derivative."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from keras_advdef.core._function_scope import FunctionScope


def input_gradient(
    function: Callable[[tf.Tensor], tuple[tf.Tensor, Any]],
    images: tf.Tensor,
    *,
    scale: float = 1.0,
) -> tuple[tf.Tensor, Any, tf.Tensor]:
    """Returns each image's loss and its gradient with respect to that image.

    The gradient is taken of the sum over the batch, in float32, so no image's gradient
    depends on how many others there are. Entries that are not finite become zero.

    Args:
        function: Maps images to float32 losses of shape `(batch,)` and anything else
            that shall come back, such as the logits.
        images: Float32 tensor of shape `(batch, ...)`.
        scale: Factor on the sum, taken out of the gradient again; keeps the small
            gradients of a float16 model from vanishing.

    Returns:
        Losses of shape `(batch,)`, what else the function returned, and gradients of
        the shape of `images`.

    Raises:
        ValueError: If the losses do not depend on the images.

    Example:

    >>> gradients = keras_advdef.core.gradients
    >>> loss, _, gradient = gradients.input_gradient(
    ...     lambda x: (tf.reduce_sum(x**2, 1), None), tf.constant([[3.0, 4.0]]))
    >>> float(loss[0]), gradient.numpy().tolist()
    (25.0, [[6.0, 8.0]])
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        losses, extra = function(images)
        total = scale * tf.reduce_sum(losses)
    gradient = tape.gradient(total, images)
    if gradient is None:
        raise ValueError(
            "`input_gradient` expects `function` to depend on the images. Received: a "
            "loss without any gradient. Write non-differentiable steps of the model "
            "with `straight_through`, or use an attack that needs no gradient."
        )
    # A SavedModel forgets how many images there are.
    gradient = tf.ensure_shape(tf.convert_to_tensor(gradient), images.shape)
    if scale != 1.0:
        gradient /= scale
    return losses, extra, tf.where(tf.math.is_finite(gradient), gradient, 0.0)


def jacobian(
    function: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a function's outputs and their derivatives, one backward pass a class.

    May be differentiated again, also with respect to the weights.

    Args:
        function: Maps `(batch, ...)` to `(batch, classes)` with a static number of
            classes, each image for itself.
        images: Float32 tensor of shape `(batch, ...)`.

    Returns:
        Outputs `(batch, classes)` and derivatives `(batch, classes, ...)`.

    Example:

    >>> matrix = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    >>> _, slopes = keras_advdef.core.gradients.jacobian(
    ...     lambda x: x @ matrix, tf.zeros((1, 2)))
    >>> slopes.numpy().tolist()
    [[[1.0, 3.0], [2.0, 4.0]]]
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(images)
        outputs = function(images)
        columns = [tf.reduce_sum(column) for column in tf.unstack(outputs, axis=1)]
    rows = [
        tape.gradient(column, images, unconnected_gradients="zero")
        for column in columns
    ]
    return outputs, tf.stack(rows, axis=1)


def straight_through(images: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """Returns `transformed`, to the bit, with the gradient of `images`.

    Every attack then meets a non-differentiable step as BPDA would (Athalye et al.
    2018): forward through the step, backward through the identity.

    Args:
        images: What shall receive the gradient.
        transformed: The value, of the same shape and dtype.

    Returns:
        Tensor of the same shape and dtype.

    Example:

    >>> x = tf.Variable([0.4])
    >>> with tf.GradientTape() as tape:
    ...     y = keras_advdef.core.gradients.straight_through(x, tf.round(x))
    >>> float(y[0]), float(tape.gradient(y, x)[0])
    (0.0, 1.0)
    """
    # The difference is an exact zero, and subtracting zero keeps every bit of the
    # value, -0.0 included; a custom gradient would be lost in a SavedModel.
    return tf.stop_gradient(transformed) - (tf.stop_gradient(images) - images)


_soft = FunctionScope()


@contextlib.contextmanager
def smooth_gradients() -> Iterator[None]:
    """Makes layers that have a differentiable approximation use it backward.

    Their outputs stay the same. Attacks that know of such a layer do better so than
    with the identity, which says nothing of what the layer removes.

    Example:

    >>> layer = keras_advdef.layers.JPEGCompression(10)
    >>> images = tf.random.stateless_uniform((1, 8, 8, 1), (0, 0))
    >>> def slopes():
    ...     with tf.GradientTape() as tape:
    ...         tape.watch(images)
    ...         compressed = layer(images)
    ...     return tape.gradient(compressed, images)
    >>> bool(np.all(slopes() == 1.0))
    True
    >>> with keras_advdef.core.gradients.smooth_gradients():
    ...     bool(np.all(slopes() == 1.0))
    False
    """
    with _soft.holding(True):
        yield


def are_gradients_smooth() -> bool:
    """Returns whether layers shall use their differentiable approximation.

    Example:

    >>> keras_advdef.core.gradients.are_gradients_smooth()
    False
    """
    return _soft.value() is not None


_unaware = FunctionScope()


@contextlib.contextmanager
def bypass_defences() -> Iterator[None]:
    """Makes the defences inside a model pass their inputs on while it is called.

    What a model gives in this scope is what an attacker sees who does not know of the
    defences. It shows by how much a naive evaluation overrates them.

    Example:

    >>> layer = keras_advdef.layers.BitDepthReduction(bits=1)
    >>> with keras_advdef.core.gradients.bypass_defences():
    ...     layer(np.full((1, 1, 1, 1), 0.6, "float32")).numpy().item() < 0.7
    True
    """
    with _unaware.holding(True):
        yield


def are_defences_bypassed() -> bool:
    """Returns whether defences shall pass their inputs on.

    Example:

    >>> keras_advdef.core.gradients.are_defences_bypassed()
    False
    """
    return _unaware.value() is not None

"""Gradients with respect to images, and layers with a substitute backward pass."""

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

    The losses are summed over the batch, so an image's gradient does not depend on the
    batch size. Entries that are not finite become zero.

    Args:
        function: Maps images to float32 losses of shape `(batch,)` and any second
            value, such as the logits.
        images: Float32 tensor of shape `(batch, ...)`.
        scale: Factor on the loss, divided out of the gradient. It keeps small gradients
            of a float16 model from vanishing.

    Returns:
        Losses of shape `(batch,)`, the second value, and gradients of the shape of
        `images`.

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
    # A SavedModel loses the batch size.
    gradient = tf.ensure_shape(tf.convert_to_tensor(gradient), images.shape)
    if scale != 1.0:
        gradient /= scale
    return losses, extra, tf.where(tf.math.is_finite(gradient), gradient, 0.0)


def jacobian(
    function: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a function's outputs and their derivatives, one backward pass per class.

    The result can be differentiated again, also with respect to weights.

    Args:
        function: Maps `(batch, ...)` to `(batch, classes)`, each image independently,
            with a static number of classes.
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
    """Returns `transformed` in the forward pass and `images` in the backward pass.

    Write every non-differentiable step of a defence with it. Any gradient attack then
    treats the step as BPDA does (Athalye, Carlini, Wagner, ICML 2018): forward through
    the step, backward through the identity.

    Args:
        images: Tensor that receives the gradient.
        transformed: Output of the step, a tensor of the same shape and dtype.

    Returns:
        Tensor equal to `transformed`, bit for bit, with the gradient of `images`.

    Example:

    >>> x = tf.Variable([0.4])
    >>> with tf.GradientTape() as tape:
    ...     y = keras_advdef.core.straight_through(x, tf.round(x))
    >>> float(y[0]), float(tape.gradient(y, x)[0])
    (0.0, 1.0)
    """
    # The difference is exactly zero, and subtracting zero keeps every bit, even of
    # -0.0. A SavedModel would lose a custom gradient.
    return tf.stop_gradient(transformed) - (tf.stop_gradient(images) - images)


_smooth = FunctionScope()
_bypassed = FunctionScope()


@contextlib.contextmanager
def smooth_gradients() -> Iterator[None]:
    """Makes layers use their differentiable approximation in the backward pass.

    Their outputs do not change. For such layers this attacks better than the identity,
    which ignores what the layer removes.

    Yields:
        Nothing; call the model in the body.

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
    with _smooth.holding(True):
        yield


def are_gradients_smooth() -> bool:
    """Returns whether `smooth_gradients` is active, for layers that support it.

    Example:

    >>> keras_advdef.core.gradients.are_gradients_smooth()
    False
    """
    return _smooth.value() is not None


@contextlib.contextmanager
def bypass_defences() -> Iterator[None]:
    """Makes the defences inside a model return their inputs unchanged.

    In this scope a model behaves as an attacker sees it who does not know the defences,
    which shows by how much a naive evaluation overrates them.

    Yields:
        Nothing; call the model in the body.

    Example:

    >>> layer = keras_advdef.layers.BitDepthReduction(bits=1)
    >>> with keras_advdef.core.gradients.bypass_defences():
    ...     layer(np.full((1, 1, 1, 1), 0.6, "float32")).numpy().item() < 0.7
    True
    """
    with _bypassed.holding(True):
        yield


def are_defences_bypassed() -> bool:
    """Returns whether `bypass_defences` is active, for layers that support it.

    Example:

    >>> keras_advdef.core.gradients.are_defences_bypassed()
    False
    """
    return _bypassed.value() is not None

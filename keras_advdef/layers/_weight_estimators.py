"""Three ways to sample the output of a linear layer with normal weights.

All have the same mean and, for every single output, the same variance. They differ in
how the outputs of a batch are correlated.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in, integers, normal
from keras_advdef.layers._bulk_random import bulk_normal

# Below this, the second derivative of the square root overflows float32.
_SMALLEST_VARIANCE = 1e-20
# For fewer weights, compiling the faster stream takes longer than it ever saves.
_MANY_WEIGHTS = 2**16


class NormalWeights(NamedTuple):
    """Means and standard deviations of a tensor of weights.

    Attributes:
        mean: Tensor, at least float32.
        stddev: Tensor of the same shape and dtype; `None` for fixed weights.
    """

    mean: tf.Tensor
    stddev: tf.Tensor | None

    def deviation(self, key: tf.Tensor) -> tf.Tensor:
        """Returns one draw minus its mean."""
        is_large = self.mean.shape.num_elements() >= _MANY_WEIGHTS
        noise = (bulk_normal if is_large else normal)(key, list(self.mean.shape))
        return self.stddev * tf.cast(noise, self.mean.dtype)

    def sample(self, key: tf.Tensor) -> tf.Tensor:
        """Returns one draw."""
        return self.mean if self.stddev is None else self.mean + self.deviation(key)


class LinearMap(NamedTuple):
    """The linear map of a layer, for any kernel and bias.

    Attributes:
        apply: Function of inputs and kernel, linear in both.
        channel_axis: Axis of the channels in inputs and outputs.
    """

    apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    channel_axis: int

    def __call__(
        self, inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the outputs, of the dtype of the inputs."""
        outputs = self.apply(inputs, tf.cast(kernel, inputs.dtype))
        if bias is None:
            return outputs
        shape = [1] * outputs.shape.rank
        shape[self.channel_axis] = -1
        return outputs + tf.cast(tf.reshape(bias, shape), outputs.dtype)

    def signs(self, key: tf.Tensor, tensor: tf.Tensor) -> tf.Tensor:
        """Returns 1 or -1 with equal probability, for each example and channel."""
        shape: list[int | tf.Tensor] = [1] * tensor.shape.rank
        shape[0] = tf.shape(tensor)[0]
        shape[self.channel_axis] = tensor.shape[self.channel_axis]
        return tf.cast(2.0 * integers(key, shape, 2) - 1.0, tensor.dtype)


def posterior_mean(
    linear: LinearMap,
    inputs: tf.Tensor,
    *,
    kernel: NormalWeights,
    bias: NormalWeights | None,
) -> tf.Tensor:
    """Returns the outputs with the weights at their means.

    Args:
        linear: The layer's map.
        inputs: Its inputs.
        kernel: The posterior of its kernel.
        bias: The posterior of its bias, or `None` if it has none.

    Returns:
        Outputs before the activation.
    """
    return linear(inputs, kernel.mean, None if bias is None else bias.mean)


def reparameterization(
    linear: LinearMap,
    inputs: tf.Tensor,
    *,
    kernel: NormalWeights,
    bias: NormalWeights | None,
    key: tf.Tensor,
) -> tf.Tensor:
    """Returns the outputs for one draw of the weights, shared by the batch.

    Args:
        linear: The layer's map.
        inputs: Its inputs.
        kernel: The posterior of its kernel.
        bias: The posterior of its bias, or `None` if it has none.
        key: Int64 tensor of shape `(2,)`.

    Returns:
        Outputs before the activation.
    """
    drawn_bias = None if bias is None else bias.sample(fold_in(key, 1))
    return linear(inputs, kernel.sample(fold_in(key, 0)), drawn_bias)


def flipout(
    linear: LinearMap,
    inputs: tf.Tensor,
    *,
    kernel: NormalWeights,
    bias: NormalWeights | None,
    key: tf.Tensor,
) -> tf.Tensor:
    """Returns the outputs for one draw, with signs flipped at random per example.

    Args:
        linear: The layer's map.
        inputs: Its inputs.
        kernel: The posterior of its kernel.
        bias: The posterior of its bias, or `None` if it has none.
        key: Int64 tensor of shape `(2,)`.

    Returns:
        Outputs before the activation.
    """
    mean = posterior_mean(linear, inputs, kernel=kernel, bias=bias)
    drawn_bias = None
    if bias is not None and bias.stddev is not None:
        drawn_bias = bias.deviation(fold_in(key, 1))
    flipped = inputs * linear.signs(fold_in(key, 2), inputs)
    deviation = linear(flipped, kernel.deviation(fold_in(key, 0)), drawn_bias)
    return mean + deviation * linear.signs(fold_in(key, 3), mean)


def local_reparameterization(
    linear: LinearMap,
    inputs: tf.Tensor,
    *,
    kernel: NormalWeights,
    bias: NormalWeights | None,
    key: tf.Tensor,
) -> tf.Tensor:
    """Draws each output independently, from its own mean and variance.

    Args:
        linear: The layer's map.
        inputs: Its inputs.
        kernel: The posterior of its kernel.
        bias: The posterior of its bias, or `None` if it has none.
        key: Int64 tensor of shape `(2,)`.

    Returns:
        Outputs before the activation.
    """
    mean = posterior_mean(linear, inputs, kernel=kernel, bias=bias)
    # Squares of activations overflow float16.
    squares = tf.square(tf.cast(inputs, kernel.mean.dtype))
    spread = None
    if bias is not None and bias.stddev is not None:
        spread = tf.square(bias.stddev)
    variance = linear(squares, tf.square(kernel.stddev), spread)
    stddev = tf.sqrt(tf.maximum(variance, _SMALLEST_VARIANCE))
    noise = bulk_normal(key, tf.shape(mean))
    return mean + tf.cast(stddev * tf.cast(noise, stddev.dtype), mean.dtype)


ESTIMATORS = {
    "reparameterization": reparameterization,
    "flipout": flipout,
    "local_reparameterization": local_reparameterization,
}

"""ProbabilitySimplex: keeps weights nonnegative, with sum one."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_advdef")
class ProbabilitySimplex(keras.constraints.Constraint):
    """Projects weights onto the probability simplex: nonnegative, with sum one.

    It is the Euclidean projection by sorting (Duchi et al., ICML 2008), along the last
    axis. The convex combinations of Parseval networks (Cisse et al., ICML 2017) use it.

    Example:

    >>> simplex = keras_advdef.constraints.ProbabilitySimplex()
    >>> np.round(simplex(tf.constant([0.2, 0.9])), 2).tolist()
    [0.15000000596046448, 0.8500000238418579]
    """

    def __call__(self, w: tf.Tensor | keras.Variable) -> tf.Tensor:
        """Returns the projected weights, of the same shape and dtype.

        Args:
            w: Float tensor or variable.
        """
        weights = tf.convert_to_tensor(w)
        falling = tf.sort(weights, axis=-1, direction="DESCENDING")
        excess = tf.cumsum(falling, axis=-1) - 1.0
        places = tf.range(1, tf.shape(weights)[-1] + 1, dtype=tf.int64)
        places = tf.cast(places, weights.dtype)
        # The largest number of entries that stay positive determines the shift.
        shifts = tf.where(
            falling * places > excess, excess / places, -weights.dtype.max
        )
        return tf.maximum(weights - tf.reduce_max(shifts, axis=-1, keepdims=True), 0.0)

"""finite_masks: minus infinity, which excludes a class, as a finite number.

Minus infinity is what a mask of classes adds to the logits, and the logarithm of a
probability of zero. The decision is clear, but differences of such logits, or a product
with zero, are NaN in losses.
"""

import tensorflow as tf

# In place of minus infinity. The difference of two such numbers still fits in float32.
_LOWEST = -1e38
# Logits below this exclude a class.
MASKED = -1e37


def finite_masks(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits with -1e38 in place of minus infinity, beside finite ones.

    Rows of nothing but minus infinity, or with plus infinity, decide nothing and stay.

    Args:
        logits: Float32 tensor, classes last.

    Returns:
        Tensor of the same shape.

    Example:

    >>> from keras_advdef.core.masked_classes import finite_masks
    >>> finite_masks(tf.constant([[2.0, -np.inf], [-np.inf, -np.inf]])).numpy()
    array([[ 2.e+00, -1.e+38],
           [   -inf,    -inf]], dtype=float32)
    """
    largest = tf.reduce_max(logits, axis=-1, keepdims=True)
    is_masked = tf.math.is_inf(logits) & (logits < 0.0) & tf.math.is_finite(largest)
    return tf.where(is_masked, tf.constant(_LOWEST, logits.dtype), logits)

"""A model whose decision flips within rounding."""

import numpy as np
import tensorflow as tf

RANGES = [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-0.42, 2.82)]


def razor(value_range, *, count=64):
    """A model, and images of a range that it puts in class 0: none other than these.

    The model takes the whole batch. Whatever is moved by a unit in the last place is in
    class 1.
    """
    low, high = np.float32(value_range)
    generator = np.random.default_rng(0)
    images = generator.uniform(low, high, (count, 4, 4, 1)).astype("float32")
    images = images.clip(low, high)
    images[0], images[1] = low, high

    def model(pixels):
        gaps = tf.reduce_max(tf.abs(pixels - images), axis=[1, 2, 3])
        return tf.stack([-tf.ones_like(gaps), tf.where(gaps > 0.0, 0.0, -2.0)], axis=1)

    return model, images

"""certify_lipschitz_margin: certified radii from one Lipschitz constant."""

import math
from typing import Any

import keras
import numpy as np

from keras_advdef.core.image_source import load_images
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.evaluation._certify.lipschitz_bound import lipschitz_bound

# Rounding error of float32 logits, as a share of their size.
_ROUNDING = 1e-5


def certify_lipschitz_margin(
    model: keras.Model, images: Any, labels: Any = None, *, batch_size: int = 128
) -> np.ndarray:
    """Returns l2 radii around images within which the prediction cannot change.

    The radius is `margin / (sqrt(2) L)`, as the difference of two logits changes by at
    most sqrt(2) L times the norm of the perturbation (Tsuzuku, Sato, Sugiyama, NeurIPS
    2018). L is the product of the layers' bounds: useful for Parseval networks, far
    too large for most others.

    Args:
        model: A built Sequential or functional model that returns logits, made of dense
            and convolutional layers, pooling and continuous activations; no
            `BatchNormalization`.
        images: Array `(count, rows, cols, channels)` in the model's value range; or a
            finite `tf.data.Dataset` or `keras.utils.PyDataset` of batches of images
            and labels.
        labels: True labels, integer or one-hot; `None` if the data set holds them.
        batch_size: Images per prediction.

    Returns:
        Float64 array `(count,)`, in the units of the images; zero for misclassified
        images.

    Raises:
        ValueError: If a layer has no known bound, or the labels do not fit.

    Example:

    >>> layer = keras.layers.Dense(2, kernel_initializer="orthogonal")
    >>> model = keras.Sequential(
    ...     [keras.Input((2, 1, 1)), keras.layers.Flatten(), layer])
    >>> layer.set_weights([np.eye(2), np.zeros(2)])
    >>> images = np.reshape([0.75, 0.25], (1, 2, 1, 1))
    >>> radii = keras_advdef.evaluation.certify_lipschitz_margin(model, images, [0])
    >>> round(float(radii[0] * np.sqrt(2)), 3)
    0.5
    """
    owner = "certify_lipschitz_margin"
    largest = lipschitz_bound(model, owner=owner)
    images, labels, _ = load_images(owner, images, labels)
    logits = model.predict(np.asarray(images), batch_size=batch_size, verbose=0)
    logits = logits.astype(np.float64)
    count, known = logits.shape
    classes = checked_class_labels(owner, labels, count=count, classes=known)
    own = logits[np.arange(len(logits)), classes]
    logits[np.arange(len(logits)), classes] = -np.inf
    rounding = _ROUNDING * np.maximum(np.abs(own), 1.0)
    margins = np.maximum(own - logits.max(axis=1) - rounding, 0.0)
    if largest == 0.0:
        return np.where(margins > 0, np.inf, 0.0)
    return margins / (math.sqrt(2.0) * largest)

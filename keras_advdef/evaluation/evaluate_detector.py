"""evaluate_detector: a detector's scores on clean and adversarial images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.image_source import load_images
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.core.predictions import predicted_classes
from keras_advdef.evaluation.detection_report import DetectionReport

_OWNER = "evaluate_detector"


def evaluate_detector(
    detector: Any,
    clean_images: np.ndarray,
    attacked_images: Mapping[str, np.ndarray],
    *,
    labels: np.ndarray,
    batch_size: int = 128,
) -> DetectionReport:
    """Scores clean images and those adversarial images that fool the classifier.

    A detection rate is meaningless unless one of the attacks is adaptive, that is,
    knows the detector; see `keras_advdef.models.SqueezingAware`.

    Args:
        detector: A `FeatureSqueezingDetector`, a `DefenseGAN` or another model with an
            attribute `threshold` whose output is a dictionary with "probabilities" and
            "score".
        clean_images: Array `(count, rows, cols, channels)` that was not used to
            calibrate the threshold; or a finite `tf.data.Dataset` or
            `keras.utils.PyDataset` of batches.
        attacked_images: For each attack, one adversarial image per label.
        labels: The true classes of the attacked images, integer or one-hot.
        batch_size: Images per pass.

    Returns:
        A `DetectionReport`.

    Raises:
        ValueError: If the numbers of labels and attacked images differ, or a label is
            not one class.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> detector = keras_advdef.models.FeatureSqueezingDetector(
    ...     classifier, [keras_advdef.layers.BitDepthReduction(1)])
    >>> images = np.random.default_rng(0).uniform(0, 1, (20, 8, 8, 1))
    >>> threshold = detector.calibrate(images[:10])
    >>> labels = np.zeros(10, int)
    >>> attacked = keras_advdef.attacks.FGSM(0.1).generate(
    ...     classifier, images[10:], labels, verbose=0)
    >>> report = keras_advdef.evaluation.evaluate_detector(
    ...     detector, images[10:], {"FGSM": attacked}, labels=labels)
    >>> report.tried
    {'FGSM': 10}
    """
    labels = np.asarray(labels)
    scores, tried = {}, {}
    for name, images in attacked_images.items():
        if len(images) != len(labels):
            rule = f"as many images for {name} as there are labels, {len(labels)}"
            raise invalid(_OWNER, "attacked_images", rule, images)
        found = detector.predict(images, batch_size=batch_size, verbose=0)
        truth = checked_class_labels(
            _OWNER, labels, count=len(images), classes=found["probabilities"].shape[1]
        )
        fooled = predicted_classes(found["probabilities"]) != truth
        scores[name], tried[name] = found["score"][fooled], len(images)
    images = np.asarray(
        load_images(_OWNER, clean_images, argument="clean_images").images
    )
    clean = detector.predict(images, batch_size=batch_size, verbose=0)
    threshold = float(np.asarray(detector.threshold))
    return DetectionReport(threshold, clean["score"], scores, tried)

"""evaluate_corruptions: accuracy under noise, blur, weather and compression."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_advdef.core.errors import checked_choice, checked_integer, invalid
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.core.predictions import check_finite_logits, predicted_classes
from keras_advdef.core.progress import Progress, progress_of
from keras_advdef.core.random_numbers import SEED_LIMIT
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS, SEVERITIES
from keras_advdef.evaluation._measure.corrupted_accuracy import measure_corruptions
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel
from keras_advdef.evaluation._request.image_data import (
    check_image_shape,
    checked_data,
)
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.corruption_report import CorruptionReport, title_of

_OWNER = "evaluate_corruptions"


def evaluate_corruptions(
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    value_range: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 128,
    seed: int = 0,
    verbose: str | int | Progress = "auto",
) -> CorruptionReport:
    """Measures the accuracy on images that are corrupted, but not attacked.

    A model that withstands attacks may still fail in fog. These are the fifteen
    corruptions of Hendrycks and Dietterich 2019, "Benchmarking neural network
    robustness to common corruptions and perturbations": with the strengths of
    CIFAR-10-C for images of up to 64 pixels, and of ImageNet-C for larger ones. Lengths
    scale with the image. The frost is drawn, not photographed, and other details differ
    too: compare models by these numbers, but not with published ones.

    Args:
        model: A Keras model; the path of a `.keras` file or a SavedModel; or a function
            from images to logits. A SavedModel is a program: load only those that you
            trust.
        images: Array `(count, rows, cols, channels)` in `value_range`, of any size; or
            a `tf.data.Dataset` or `keras.utils.PyDataset` of batches of images and
            labels.
        labels: True classes, integer `(count,)` or one-hot `(count, classes)`; `None`
            if the data set holds them.
        corruptions: Names of some of the corruptions; `None` for all of them:
            "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur",
            "glass_blur", "motion_blur", "zoom_blur", "snow", "frost", "fog",
            "brightness", "contrast", "elastic_transform", "pixelate" and
            "jpeg_compression".
        severities: Integers from 1, mild, to 5.
        value_range: Pair `(low, high)`, the range of the pixels.
        batch_size: Images per pass.
        seed: Seed of every draw. What an image gets depends only on the seed and on its
            place among the images.
        verbose: 0 for silence; 1 or "auto" for a line about each corruption; or a
            `keras_advdef.core.progress.Progress` that shows them another way.

    Returns:
        A `CorruptionReport`.

    Raises:
        ValueError: If an argument is invalid; the message says how.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> images = np.random.default_rng(0).uniform(size=(6, 8, 8, 1))
    >>> report = keras_advdef.evaluation.evaluate_corruptions(
    ...     model, images, [0, 1] * 3, corruptions=["fog"], severities=[1, 5],
    ...     verbose=0)
    >>> list(report.accuracies["fog"])
    [1, 5]
    """
    kinds, chosen = _checked_kinds(corruptions), _checked_severities(severities)
    pixels = ValueRange.parse(_OWNER, value_range)
    batch_size = checked_integer(_OWNER, "batch_size", batch_size, low=1)
    seed = checked_integer(_OWNER, "seed", seed, low=0, high=SEED_LIMIT - 1)
    images, labels, _ = checked_data(_OWNER, images, labels, value_range=pixels)
    evaluated = EvaluatedModel.of(model, owner=_OWNER)
    check_image_shape(_OWNER, "model", images=images, expected=evaluated.image_shape)
    size = min(batch_size, len(images))
    judge = Judge(evaluated.model, value_range=pixels, batch_size=size)
    logits = judge.logits(images, seed)
    is_finite = np.isfinite(logits).all(axis=1)
    check_finite_logits(_OWNER, "model", evaluated.model, is_finite)
    truth = checked_class_labels(
        _OWNER, labels, count=len(images), classes=logits.shape[1]
    )
    correct = int((predicted_classes(logits) == truth).sum())
    return measure_corruptions(
        judge,
        images,
        truth,
        clean=AccuracyEstimate(correct, len(images)),
        kinds=kinds,
        severities=chosen,
        seed=seed,
        ledger=Ledger(None, {}, Progress()),
        begin=_teller(progress_of(verbose), kinds, len(images)),
    )


def _teller(
    progress: Progress, kinds: Sequence[str], count: int
) -> Callable[[str], None]:
    """Returns a function that tells which corruption begins, and the time left."""
    started = time.perf_counter()

    def begin(kind: str) -> None:
        done, spent = kinds.index(kind), time.perf_counter() - started
        seconds = spent / done * (len(kinds) - done) if done else None
        progress.update(title_of(kind), left=count, seconds=seconds)

    return begin


def _checked_kinds(corruptions: Sequence[str] | None) -> tuple[str, ...]:
    if corruptions is None:
        return CORRUPTIONS
    if not isinstance(corruptions, (list, tuple)) or not corruptions:
        rule = "a list of names, such as ['fog', 'snow']"
        raise invalid(_OWNER, "corruptions", rule, corruptions)
    for each in corruptions:
        checked_choice(_OWNER, "corruptions", each, CORRUPTIONS)
    return tuple(each for each in CORRUPTIONS if each in corruptions)


def _checked_severities(severities: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(severities, (list, tuple, range, np.ndarray)) or not len(
        severities
    ):
        rule = "a list of integers in [1, 5]"
        raise invalid(_OWNER, "severities", rule, severities)
    numbers = [
        checked_integer(
            _OWNER, "severities", each, low=SEVERITIES[0], high=SEVERITIES[-1]
        )
        for each in severities
    ]
    return tuple(sorted({*numbers}))

"""Measures the accuracy on images with common corruptions."""

import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_advdef.core.predictions import predicted_classes
from keras_advdef.evaluation._corrupt.corrupt import corrupt
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.corruption_report import CLEAN, CorruptionReport


def measure_corruptions(
    judge: Judge,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    clean: AccuracyEstimate,
    kinds: Sequence[str],
    severities: Sequence[int],
    seed: int,
    ledger: Ledger,
    begin: Callable[[str], None],
) -> CorruptionReport:
    """Returns the accuracy for each corruption and severity.

    A random model sees each corrupted image in one draw. A detector that flags one is
    wrong, since nobody attacks.

    Args:
        judge: Runs the model.
        images: Clean images in the judge's value range.
        labels: Integer labels.
        clean: Accuracy on the clean images.
        kinds: Names of the corruptions.
        severities: Integers in 1..5, in increasing order.
        seed: Fixes all draws.
        ledger: Stores each finished corruption.
        begin: Called with the name of each corruption before it starts.
    """
    accuracies = {}
    for kind in kinds:
        begin(kind)
        count = functools.partial(
            _correct, judge, images, labels, kind=kind, severities=severities, seed=seed
        )
        part = ledger.part(f"corruption-{kind}", count, f"the corruption {kind}")
        accuracies[kind] = {
            severity: AccuracyEstimate(int(correct), len(images))
            for severity, correct in zip(severities, part["correct"], strict=True)
        }
    middle = severities[len(severities) // 2]
    first = to_corrupt(judge, images[:1])
    examples = {kind: corrupt(first, kind, middle, seed=seed)[0] for kind in kinds}
    return CorruptionReport(
        clean=clean,
        accuracies=accuracies,
        seed=seed,
        examples={CLEAN: first[0], **examples},
    )


def _correct(
    judge: Judge,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    kind: str,
    severities: Sequence[int],
    seed: int,
) -> Arrays:
    """Counts the correctly classified images for each severity."""
    correct = np.zeros(len(severities), np.int64)
    for start in range(0, len(images), judge.batch_size):
        rows = slice(start, start + judge.batch_size)
        batch = to_corrupt(judge, images[rows])
        for place, severity in enumerate(severities):
            corrupted = corrupt(batch, kind, severity, seed=seed, first=start)
            draw = derived_seed(seed, "corrupted", kind, severity, start)
            logits = judge.logits(_for_model(judge, corrupted), draw)
            # NaN predicts no class: without an attacker, that is a mistake.
            correct[place] += (predicted_classes(logits) == labels[rows]).sum()
    return {"correct": correct}


def to_corrupt(judge: Judge, images: np.ndarray) -> np.ndarray:
    """Returns images as corruptions take them: in `[0, 1]`, channels last.

    Args:
        judge: Knows the value range.
        images: Images of the user.
    """
    unit = judge.value_range.to_unit(images.astype(np.float32)).clip(0.0, 1.0)
    return np.moveaxis(unit, 1, -1) if _is_channels_first() else unit


def _for_model(judge: Judge, images: np.ndarray) -> np.ndarray:
    """Undoes `to_corrupt`."""
    ours = np.moveaxis(images, -1, 1) if _is_channels_first() else images
    return judge.value_range.pixels_of(ours)


def _is_channels_first() -> bool:
    return keras.config.image_data_format() == "channels_first"

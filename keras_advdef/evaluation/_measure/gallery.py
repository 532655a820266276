"""Gallery: the most fragile and the most robust images of an evaluation."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.norms import norm_per_image
from keras_advdef.core.predictions import predicted_classes
from keras_advdef.core.untrusted import Refusal, read_npz
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
)
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._run.image_records import Example
from keras_advdef.evaluation._run.judge import Judge

_EACH = 4
_RANK = 4
_ARRAYS = ("clean", "adversarial", "norms", "labels", "predicted")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Some images, clean and with the smallest perturbation found.

    Attributes:
        clean: Images in `[0, 1]`, from the most fragile to the most robust.
        adversarial: Their adversarial images in `[0, 1]`.
        norms: Norms of the perturbations, in the units of the value range.
        labels: True classes.
        predicted: Predicted classes of the adversarial images.
    """

    clean: np.ndarray
    adversarial: np.ndarray
    norms: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(
        cls,
        smallest: SmallestPerturbations | None,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        judge: Judge,
        draws: int,
        seed: int,
    ) -> "Gallery | None":
        """Returns the images with the smallest and largest norms, `None` for none.

        Of a random model, only images that most of some fresh draws misclassify.

        Args:
            smallest: The nearest adversarial images.
            images: All images in the value range.
            labels: Their classes.
            judge: Runs the model.
            draws: Number of fresh draws; 1 for a deterministic model.
            seed: Fixes the draws.
        """
        if smallest is not None and draws > 1:
            smallest = _confirmed(smallest, judge, labels, draws=draws, seed=seed)
        if smallest is None or not np.isfinite(smallest.norms).any():
            return None
        value_range = judge.value_range
        order = np.argsort(smallest.norms, kind="stable")
        order = order[np.isfinite(smallest.norms[order])]
        ends = np.unique(np.r_[: min(_EACH, len(order)), -_EACH:0] % len(order))
        chosen = order[ends]
        rows = smallest.rows[chosen]
        return cls(
            clean=value_range.to_unit(images[rows].astype(np.float32)),
            adversarial=value_range.to_unit(smallest.images[chosen]),
            norms=smallest.norms[chosen],
            labels=labels[rows],
            predicted=smallest.predicted[chosen],
        )

    @classmethod
    def of_example(
        cls,
        example: Example | None,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        norm: str,
        value_range: ValueRange,
    ) -> "Gallery | None":
        """Returns one image and what an attack within epsilon made of it.

        Args:
            example: The image, or `None`.
            images: All images in the value range.
            labels: Their classes.
            norm: Norm of the perturbation.
            value_range: Range of the pixels.
        """
        if example is None:
            return None
        rows = [example.row]
        clean = images[rows].astype(np.float32)
        change = tf.constant(example.image[None] - clean)
        return cls(
            clean=value_range.to_unit(clean),
            adversarial=value_range.to_unit(example.image[None]),
            norms=norm_per_image(change, norm).numpy(),
            labels=labels[rows],
            predicted=np.array([example.predicted]),
        )

    def save(self, path: Path) -> None:
        """Writes the arrays to a file.

        Args:
            path: A .npz file.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path, refuse: Refusal) -> "Gallery | None":
        """Returns what `save` wrote; `None` if there is no such file.

        Args:
            path: A .npz file.
            refuse: Turns a sentence into the error to raise.

        Raises:
            Exception: The error made by `refuse`, if the file is damaged.
        """
        if not path.exists():
            return None
        arrays = read_npz(path, refuse, names=_ARRAYS)
        shape = arrays["clean"].shape
        shapes = {"clean": shape, "adversarial": shape}
        fits = len(shape) == _RANK and 0 not in shape
        for name, array in arrays.items():
            fits &= array.dtype.kind in "fiu" and bool(np.isfinite(array).all())
            fits &= array.shape == shapes.get(name, shape[:1])
        if not fits:
            raise refuse("Its arrays are not images with their classes.")
        return cls(**arrays)

    def panels(self, column: int) -> list[np.ndarray]:
        """Returns an image clean, its magnified perturbation, and it adversarial.

        Args:
            column: Place of the image.

        Returns:
            Three arrays in `[0, 1]` as matplotlib shows them: `(rows, cols)` for grey
            values, else `(rows, cols, 3)` or `(rows, cols, 4)`.
        """
        clean, adversarial = self.clean[column], self.adversarial[column]
        scaled = 0.5 + self.magnification(column) * (adversarial - clean)
        return [_shown(each) for each in (clean, scaled, adversarial)]

    def magnification(self, column: int) -> float:
        """Returns the factor at which the largest change of a pixel is half the range.

        Args:
            column: Place of the image.
        """
        change = np.abs(self.adversarial[column] - self.clean[column])
        return 0.5 / max(float(change.max()), 1e-12)


def _confirmed(
    smallest: SmallestPerturbations,
    judge: Judge,
    labels: np.ndarray,
    *,
    draws: int,
    seed: int,
) -> SmallestPerturbations:
    """Drops images that few draws misclassify, and names their most frequent class."""
    true = labels[smallest.rows]
    seeds = [derived_seed(seed, "gallery", draw) for draw in range(draws)]
    runs = [judge.logits(smallest.images, each) for each in seeds]
    fooled = np.stack([judge.fooled(logits, true) for logits in runs])
    votes = [
        np.where(each, predicted_classes(logits), true)
        for each, logits in zip(fooled, runs, strict=True)
    ]
    counts = np.apply_along_axis(
        np.bincount, 0, np.stack(votes), minlength=runs[0].shape[1]
    )
    counts[true, np.arange(len(true))] = 0
    is_sure = fooled.sum(axis=0) > draws / 2
    return dataclasses.replace(
        smallest,
        norms=np.where(is_sure, smallest.norms, np.inf),
        predicted=counts.argmax(axis=0),
    )


def _shown(image: np.ndarray) -> np.ndarray:
    if keras.config.image_data_format() == "channels_first":
        image = np.moveaxis(image, 0, -1)
    # An image of two channels cannot be drawn: show its first channel.
    shown = image if image.shape[-1] in (3, 4) else image[..., 0]
    return shown.clip(0.0, 1.0)

"""Gallery: the most fragile and the most robust images of an evaluation."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_advdef.core.untrusted import Refusal, read_npz
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
)

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
        value_range: ValueRange,
    ) -> "Gallery | None":
        """Returns the images with the smallest and largest norms, `None` for none.

        Args:
            smallest: The nearest adversarial images.
            images: All images in the value range.
            labels: Their classes.
            value_range: Range of the pixels.
        """
        if smallest is None or not np.isfinite(smallest.norms).any():
            return None
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

    def draw(self, axes: Any) -> None:
        """Draws clean images, perturbations and adversarial images, one column each.

        Args:
            axes: Array of matplotlib axes, three rows and as many columns as images.
        """
        for column, clean in enumerate(self.clean):
            adversarial = self.adversarial[column]
            change = adversarial - clean
            largest = max(float(np.abs(change).max()), 1e-12)
            _show(axes[0, column], clean)
            _show(axes[1, column], 0.5 + 0.5 * change / largest)
            _show(axes[2, column], adversarial)
            axes[0, column].set_title(f"{self.labels[column]}", fontsize=8)
            axes[1, column].set_title(f"x {0.5 / largest:.3g}", fontsize=8)
            axes[2, column].set_title(
                f"{self.predicted[column]}, at {self.norms[column]:.3g}", fontsize=8
            )
        names = ("clean", "perturbation", "adversarial")
        for row, name in enumerate(names):
            axes[row, 0].set_ylabel(name, fontsize=8)


def _show(axes: Any, image: np.ndarray) -> None:
    if keras.config.image_data_format() == "channels_first":
        image = np.moveaxis(image, 0, -1)
    # An image of two channels cannot be drawn: show its first channel.
    shown = image if image.shape[-1] in (3, 4) else image[..., 0]
    axes.imshow(shown.clip(0.0, 1.0), cmap="gray", vmin=0.0, vmax=1.0)
    axes.set(xticks=[], yticks=[])

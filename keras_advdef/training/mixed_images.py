"""MixedImages: batches of real images and a share of extra ones."""

import math
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_advdef.core.errors import checked_integer, checked_number, invalid
from keras_advdef.core.random_state import checked_seed
from keras_advdef.core.untrusted import map_npz

_OWNER = "MixedImages"
_NAMES = ("images", "labels")
# Streams of draws.
_REAL, _EXTRA, _PLACES = range(3)


class MixedImages(keras.utils.PyDataset):
    """Batches of real images and a fixed share of extra ones, for `fit`.

    Many generated images, labelled by a classifier, make adversarial training more
    robust, if every batch mixes them with real ones: a share of 0.7 for CIFAR-10
    (Rebuffi et al. 2021, arXiv 2103.01946; Wang et al. 2023, arXiv 2302.04638).

    An epoch is one pass over the real images, and takes the extra ones where the epoch
    before stopped: each is seen once before any is seen again. Order and places in a
    batch depend on seed and epoch alone. The last batch of an epoch may be smaller, of
    about the same share. Pixels and labels keep their type, such as uint8.

    Pass it to `fit` with `shuffle=False`. It counts epochs by itself; a run that starts
    at a later epoch tells it by the callback
    `keras.callbacks.LambdaCallback(on_epoch_begin=mixed.set_epoch)`.

    Args:
        images: Real images `(count, rows, cols, channels)`; an array on disk, such as a
            `np.memmap`, stays there.
        labels: Their labels, integers `(count,)` or rows `(count, classes)`.
        extra: Extra images and their labels, as a pair of arrays or the path of a
            `.npz` file with the arrays `images` and `labels`; pixels and labels of the
            form of the real ones. Written by `np.savez` it stays on disk; compressed,
            it is read into memory. Labels of generated images may be a classifier's
            predictions, `classifier.predict(images).argmax(axis=-1)`.
        extra_share: Number between 0 and 1, the share of extra images in a batch.
        batch_size: Images in a batch, real and extra.
        seed: Integer in `[0, 2**31)`.
        **kwargs: `workers` and the like; see `keras.utils.PyDataset`.

    Attributes:
        epoch: Number of the epoch whose batches it gives, from 0.

    Raises:
        ValueError: If arrays do not fit together, a batch would hold no real or no
            extra image, or the file cannot be read.

    Example:

    >>> real = np.zeros((6, 2, 2, 1), np.uint8), np.arange(6)
    >>> generated = np.full((9, 2, 2, 1), 255, np.uint8), np.arange(9)
    >>> mixed = keras_advdef.training.MixedImages(
    ...     *real, generated, extra_share=0.5, batch_size=4)
    >>> images, labels = mixed[0]
    >>> len(mixed), sorted(images[:, 0, 0, 0].tolist()), images.dtype.name
    (3, [0, 0, 255, 255], 'uint8')
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        extra: tuple[np.ndarray, np.ndarray] | str | os.PathLike[str],
        *,
        extra_share: float = 0.7,
        batch_size: int = 128,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.images, self.labels = _pair("images", images, labels)
        self.extra_images, self.extra_labels = _extra(extra)
        _check_alike("images", self.images, self.extra_images)
        _check_alike("labels", self.labels, self.extra_labels)
        self.extra_share = checked_number(
            _OWNER, "extra_share", extra_share, low=0.0, high=1.0
        )
        self.batch_size = checked_integer(_OWNER, "batch_size", batch_size, low=2)
        self._extra_count = round(self.extra_share * self.batch_size)
        self._real_count = self.batch_size - self._extra_count
        if not (self._extra_count and self._real_count):
            rule = f"a share of which a batch of {batch_size} has both kinds of images"
            raise invalid(_OWNER, "extra_share", rule, extra_share)
        self.seed = checked_seed(_OWNER, seed) or 0
        self.epoch = 0
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        return math.ceil(len(self.images) / self._real_count)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns images and labels of a batch of the current epoch."""
        epoch, first = self.epoch, index * self._real_count
        order = self._order(_REAL, epoch, len(self.images))
        real = order[first : first + self._real_count]
        extra = self._extra_rows(epoch, index, self._extra_of(len(real)))
        places = self._generator(_PLACES, epoch, index).permutation(
            len(real) + len(extra)
        )
        parts = (
            (self.images, self.extra_images),
            (self.labels, self.extra_labels),
        )
        images, labels = (
            np.concatenate([one[real], other[extra]])[places] for one, other in parts
        )
        return images, labels

    def on_epoch_end(self) -> None:
        """Counts the epoch."""
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the epoch whose batches come next.

        Args:
            epoch: Its number, from 0.
            logs: Ignored.
        """
        del logs
        self.epoch = checked_integer(_OWNER, "epoch", epoch, low=0)
        self._orders = {}

    def _extra_of(self, real: int) -> int:
        """Returns how many extra images come with so many real ones."""
        return round(real * self._extra_count / self._real_count)

    def _extra_rows(self, epoch: int, index: int, count: int) -> np.ndarray:
        """Returns the rows of extra images of a batch, counted through all epochs."""
        last = len(self.images) - (len(self) - 1) * self._real_count
        per_epoch = (len(self) - 1) * self._extra_count + self._extra_of(last)
        first = epoch * per_epoch + index * self._extra_count
        passes, rows = np.divmod(
            np.arange(first, first + count), len(self.extra_images)
        )
        for number in np.unique(passes):
            order = self._order(_EXTRA, int(number), len(self.extra_images))
            rows[passes == number] = order[rows[passes == number]]
        return rows

    def _order(self, stream: int, number: int, count: int) -> np.ndarray:
        found = self._orders.get((stream, number))
        if found is None:
            found = self._generator(stream, number).permutation(count)
            self._orders[stream, number] = found
        return found

    def _generator(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *place])


def _extra(given: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(given, (str, os.PathLike)):

        def refuse(advice: str) -> ValueError:
            rule = "a .npz file with the arrays `images` and `labels`"
            return invalid(_OWNER, "extra", rule, str(given), advice=advice)

        given = map_npz(Path(given), refuse, names=_NAMES)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        rule = "a pair (images, labels) of arrays, or the path of a .npz file"
        raise invalid(_OWNER, "extra", rule, given)
    return _pair("extra", *given)


def _pair(argument: str, images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    # A `np.memmap` stays one.
    images, labels = np.asanyarray(images), np.asanyarray(labels)
    if images.ndim != 4 or not len(images):
        rule = "images of shape (count, rows, cols, channels), at least one"
        raise invalid(_OWNER, argument, rule, images)
    if not labels.ndim or len(labels) != len(images):
        rule = f"{len(images)} images with as many labels"
        raise invalid(_OWNER, argument, rule, labels)
    return images, labels


def _check_alike(what: str, real: np.ndarray, extra: np.ndarray) -> None:
    """Raises unless extra images, or labels, have the form of the real ones."""
    is_image = what == "images"
    alike = real.shape[1:] == extra.shape[1:] and real.dtype == extra.dtype
    if not is_image and real.shape[1:] == extra.shape[1:]:
        kinds = {each.dtype.kind in "iu" for each in (real, extra)}
        alike = len(kinds) == 1
    if alike:
        return
    shape = ("count", *real.shape[1:])
    rule = f"{what} of shape {shape} and dtype {real.dtype}, as the real ones"
    advice = "Convert the one or the other."
    raise invalid(_OWNER, "extra", rule.replace("'", ""), extra, advice=advice)

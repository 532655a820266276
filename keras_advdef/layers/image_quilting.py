"""ImageQuilting: images rebuilt from patches of clean training images."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_integer, invalid
from keras_advdef.core.gradients import straight_through
from keras_advdef.core.image_layout import to_channels_last
from keras_advdef.core.keras_private import make_default_seed
from keras_advdef.core.random_numbers import integers
from keras_advdef.core.value_range import checked_images
from keras_advdef.layers._compiled import compiled
from keras_advdef.layers._published import (
    BROKEN_BY_BPDA_AND_EOT,
    COUNTERING,
    COUNTERING_CLAIM,
)
from keras_advdef.layers._quilting import (
    MOST_ROWS,
    grid_patches,
    patch_starts,
    pick_nearest,
    sample_patches,
    stitch_patches,
)
from keras_advdef.layers._resizable_weight import ResizableWeight
from keras_advdef.layers.input_transform import InputTransform

_ADAPT = "ImageQuilting.adapt"
# Images read at once; together with the sample this bounds the memory of `adapt`.
_BATCH = 64


@defence(
    DefenceCard(
        summary="Rebuilds every image from similar patches of clean training images.",
        category="input transformation",
        paper=COUNTERING,
        claim=COUNTERING_CLAIM,
        standing="broken",
        breaks=(BROKEN_BY_BPDA_AND_EOT,),
        eot_samples=30,
        gradient="straight-through",
        attacks=("PGD", "APGD"),
        training_cost="a search of the whole patch bank for every patch of an image",
        inference_cost="the same as in training",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class ImageQuilting(InputTransform):
    """Rebuilds each image from patches of clean images, so that no pixel of it remains.

    The image is cut into overlapping patches. Each is replaced by one of its nearest
    neighbours (l2) in a bank of clean patches, drawn uniformly and independently for
    every patch and call. Adjacent patches are joined along the minimum-error seams of
    Efros and Freeman (2001), not overwritten as in the code of Guo et al. The last
    patches of a row and column end at the border, so images of every size are covered.
    The backward pass uses the identity, so attacks meet the defence with BPDA.

    Fill the bank with `adapt` before the first call. Use clean training images, never
    test images: otherwise the layer returns the very images it is asked to classify.
    The bank is saved with the weights; a loaded layer needs no `adapt`.

    Args:
        patch_size: Integer of at least 1. Side of a patch, in pixels.
        overlap: Integer in `[0, patch_size - 1]`. Pixels that adjacent patches share.
        neighbors: Integer of at least 1. Number of nearest patches to draw from; with
            1, nothing is random.
        **kwargs: `value_range`, `active`, `seed`, `name`, `dtype`; see
            `InputTransform`.

    Input shape:
        `(batch, rows, cols, channels)`, floats in `value_range`, with at least
        `patch_size` rows and columns and the channels of the bank.

    Output shape:
        As the input.

    Raises:
        ValueError: If an argument is out of bounds; on a call, if the bank is empty or
            has other channels, or if images are smaller than a patch.

    Example:

    >>> clean = np.random.default_rng(0).uniform(size=(4, 12, 12, 1))
    >>> layer = keras_advdef.layers.ImageQuilting(neighbors=1)
    >>> layer.adapt(clean)
    >>> bool(np.all(layer(clean) == clean.astype("float32")))
    True
    """

    draws = False

    def __init__(
        self,
        *,
        patch_size: int = 5,
        overlap: int = 2,
        neighbors: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = "ImageQuilting"
        self.patch_size = checked_integer(owner, "patch_size", patch_size, low=1)
        self.overlap = checked_integer(
            owner, "overlap", overlap, low=0, high=patch_size - 1
        )
        self.neighbors = checked_integer(owner, "neighbors", neighbors, low=1)
        if self.neighbors > 1:
            self.start_drawing()
        with keras.name_scope(self.name):
            self.bank = ResizableWeight("bank")

    def adapt(
        self, data: ArrayLike | tf.data.Dataset, max_patches: int = 1_000_000
    ) -> None:
        """Fills the bank with patches of clean training images, replacing its contents.

        If there are more than `max_patches` patches, a uniform sample is used. The
        layer's `seed` fixes the sample; without a seed, `keras.utils.set_random_seed`
        does.

        Args:
            data: Array of shape `(count, rows, cols, channels)` in `value_range`; or a
                `tf.data.Dataset` of images, or of tuples that start with images,
                batched or not. A data set is read once.
            max_patches: Integer in `[1, 2**24]`.

        Raises:
            ValueError: If the data are not such images, are smaller than a patch, or
                have fewer than `neighbors` patches.
        """
        most = checked_integer(
            _ADAPT, "max_patches", max_patches, low=1, high=MOST_ROWS
        )
        start = make_default_seed() if self.seed is None else self.seed
        batches = self._clean(_batches(data))
        bank = sample_patches(batches, self.patch_size, most, start)
        if len(bank) < self.neighbors:
            rule = f"of at least {self.neighbors} patches, the `neighbors`"
            raise invalid(_ADAPT, "data", rule, bank)
        self.bank.assign(bank)

    def _clean(self, batches: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Checks images and maps them to `[0, 1]`."""
        channels = None
        for batch in batches:
            images = checked_images(_ADAPT, batch, self.value_range)
            images = np.asarray(to_channels_last(images, self.data_format))
            channels = channels or images.shape[3]
            if images.shape[3] != channels:
                rule = f"images that all have {channels} channels"
                raise invalid(_ADAPT, "data", rule, images)
            if min(images.shape[1:3]) < self.patch_size:
                rule = (
                    f"images of at least `patch_size`={self.patch_size} pixels a side"
                )
                raise invalid(_ADAPT, "data", rule, images)
            unit = self.value_range.to_unit(images.astype(np.float32))
            yield np.clip(unit, 0.0, 1.0)
        if channels is None:
            raise invalid(_ADAPT, "data", "a dataset of at least one image", [])

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns images made of patches of the bank, float32 in `[0, 1]`."""
        self._check(images)
        count = len(patch_starts(images.shape[1], self.patch_size, self.overlap))
        count *= len(patch_starts(images.shape[2], self.patch_size, self.overlap))
        ranks = tf.zeros([tf.shape(images)[0], count])
        if self.draws:
            ranks = integers(
                self.next_key(), tf.unstack(tf.shape(ranks)), float(self.neighbors)
            )
        bank = tf.ensure_shape(
            tf.convert_to_tensor(self.bank), [None, self._features(images)]
        )
        quilted = _quilted(
            tf.stop_gradient(images),
            ranks,
            bank,
            self.patch_size,
            self.overlap,
            self.neighbors,
        )
        return straight_through(images, tf.ensure_shape(quilted, images.shape))

    def _features(self, images: tf.Tensor) -> int:
        return self.patch_size**2 * images.shape[3]

    def _check(self, images: tf.Tensor) -> None:
        owner, side = "ImageQuilting", self.patch_size
        rows, features = self.bank.shape
        if rows == 0:
            advice = "Call `adapt` with clean training images."
            rule = "filled before the first call"
            raise invalid(owner, "bank", rule, self.bank, advice=advice)
        if None in images.shape[1:] or min(images.shape[1:3]) < side:
            rule = f"of a known size of at least `patch_size`={side} pixels a side"
            raise invalid(owner, "images", rule, images)
        if features != self._features(images):
            channels = features // side**2
            rule = f"of {channels} channels, like the images given to `adapt`"
            raise invalid(owner, "images", rule, images)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "overlap": self.overlap,
            "neighbors": self.neighbors,
        }


@compiled
def _quilted(
    images: tf.Tensor,
    ranks: tf.Tensor,
    bank: tf.Tensor,
    patch_size: int,
    overlap: int,
    neighbors: int,
) -> tf.Tensor:
    queries = grid_patches(images, patch_size, overlap)
    flat = tf.reshape(queries, [-1, queries.shape[2]])
    picked = pick_nearest(flat, tf.reshape(ranks, [-1]), bank, neighbors)
    picked = tf.reshape(picked, tf.shape(queries))
    return stitch_patches(picked, tuple(images.shape[1:]), patch_size, overlap)


def _batches(data: ArrayLike | tf.data.Dataset) -> Iterator[np.ndarray]:
    """Yields the images of an array or a dataset, a few at a time."""
    if isinstance(data, tf.data.Dataset):
        yield from _dataset_batches(data)
        return
    images = np.asarray(data)
    if images.ndim != 4 or 0 in images.shape:
        rule = "a non-empty array of shape (count, rows, cols, channels) or a dataset"
        raise invalid(_ADAPT, "data", rule, images)
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]


def _dataset_batches(data: tf.data.Dataset) -> Iterator[np.ndarray]:
    data = data.map(lambda *element: tf.nest.flatten(element)[0])
    shape = data.element_spec.shape
    if shape.rank not in (3, 4):
        rule = "a dataset of images of shape (rows, cols, channels), batched or not"
        raise invalid(_ADAPT, "data", rule, data.element_spec)
    if shape.rank == 3 and shape.is_fully_defined():
        data = data.batch(_BATCH)
    for images in data.as_numpy_iterator():
        yield images if images.ndim == 4 else images[None]

"""The batches of a training: in an order and with shifts that the epoch decides."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.callbacks.epoch_shuffle import EpochShuffle
from keras_advdef.core.random_numbers import fold_in, integers, make_key
from keras_advdef.recipes._harden.training_data import TrainingData

# A shift of 4 pixels for images of 32, as is usual on CIFAR-10.
_SHIFT_SHARE = 8


class Batches(keras.callbacks.Callback):
    """Batches for `fit`, and the callback that tells them the epoch.

    Order, shifts and mirrors depend on seed and epoch alone, so that a resumed run
    sees what the stopped one would have seen.

    Args:
        data: The images.
        batch_size: Images in a batch.
        seed: Integer in `[0, 2**31)`.
        augment: Whether to shift and mirror.
        low: Lowest pixel, which fills the margin of shifted images.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        batch_size: int,
        seed: int,
        augment: bool,
        low: float,
    ) -> None:
        super().__init__()
        self._shuffle = EpochShuffle(seed)
        self._seed, self._low = seed, low
        if data.stream is not None:
            self.dataset = data.stream
            return
        arrays = data.arrays
        batches = self._shuffle.dataset(
            arrays.images,
            arrays.labels,
            batch_size=batch_size,
            drop_remainder=len(arrays) >= batch_size,
        )
        count = batches.cardinality()
        prepared = batches.enumerate().map(
            self._augmented if augment else self._plain,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        counted = prepared.apply(tf.data.experimental.assert_cardinality(count))
        self.dataset = counted.prefetch(2)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the epoch whose order and shifts are used next."""
        self._shuffle.on_epoch_begin(epoch, logs)

    def _plain(
        self, number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del number
        images, labels = batch
        return tf.cast(images, tf.float32), labels

    def _augmented(
        self, number: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = self._plain(number, batch)
        epoch = tf.cast(self._shuffle.epoch, tf.int64)
        key = fold_in(fold_in(make_key(self._seed), epoch), number)
        images = mirrored(images, fold_in(key, 0))
        return shifted(images, fold_in(key, 1), self._low), labels


def mirrored(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Returns images of which about every other one is mirrored.

    Args:
        images: A batch of images `(batch, rows, cols, channels)`.
        key: Key of the draw.
    """
    is_mirrored = integers(key, [tf.shape(images)[0]], 2.0) == 1.0
    return tf.where(
        is_mirrored[:, None, None, None], tf.reverse(images, axis=[2]), images
    )


def shifted(images: tf.Tensor, key: tf.Tensor, low: float) -> tf.Tensor:
    """Returns images shifted by up to an eighth of their side, each by its own draw.

    Args:
        images: A batch of images `(batch, rows, cols, channels)`.
        key: Key of the draw.
        low: The value of pixels that come in at the margin.
    """
    rows, columns = tf.shape(images)[1], tf.shape(images)[2]
    most = tf.maximum(1, tf.minimum(rows, columns) // _SHIFT_SHARE)
    margins = tf.stack([[0, 0], [most, most], [most, most], [0, 0]])
    wide = tf.pad(images, margins, constant_values=low)
    count = tf.shape(images)[0]
    offsets = integers(key, [2, count], 2 * most + 1)
    down, right = tf.unstack(tf.cast(offsets, tf.int32))
    wide = tf.gather(wide, down[:, None] + tf.range(rows), axis=1, batch_dims=1)
    moved = tf.gather(wide, right[:, None] + tf.range(columns), axis=2, batch_dims=1)
    return tf.ensure_shape(moved, images.shape)

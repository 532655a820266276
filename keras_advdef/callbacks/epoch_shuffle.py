"""EpochShuffle: shuffles so that a resumed run sees the same batches."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_integer, invalid
from keras_advdef.core.random_state import checked_seed


@keras.saving.register_keras_serializable(package="keras_advdef")
class EpochShuffle(keras.callbacks.Callback):
    """Shuffles training data in an order that depends on seed and epoch alone.

    The order that `fit` on arrays and `tf.data.Dataset.shuffle` use in an epoch depends
    on how many epochs this process has run. A run that
    `keras.callbacks.BackupAndRestore` resumes therefore sees other batches than an
    uninterrupted one. Here epoch 3 has the same order in any run. Random layers of this
    package save their state, so both runs end with the same weights, bit for bit on one
    CPU device.

    Pass `dataset(...)` to `fit` with `shuffle=False`, and the object itself as a
    callback, which tells the data set the epoch.

    Args:
        seed: Integer in `[0, 2**31)`.

    Attributes:
        epoch: Variable with the number of the epoch, for more draws that depend on it.

    Raises:
        ValueError: If the seed is not such an integer.

    Example:

    >>> x, y = np.arange(6.0).reshape(6, 1), np.arange(6)
    >>> shuffle = keras_advdef.callbacks.EpochShuffle(seed=3)
    >>> batches = shuffle.dataset(x, y, batch_size=4)
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(
    ...     batches, epochs=2, shuffle=False, callbacks=[shuffle], verbose=0)
    >>> sorted(label for _, labels in batches for label in labels.numpy().tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = checked_seed("EpochShuffle", seed) or 0
        # Data sets read the variable on the host.
        with tf.device("CPU:0"):
            self.epoch = tf.Variable(0, dtype=tf.int32, trainable=False, name="epoch")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the epoch whose order is used next."""
        del logs
        self.epoch.assign(epoch)

    def dataset(
        self,
        *arrays: np.ndarray,
        batch_size: int = 32,
        drop_remainder: bool = False,
    ) -> tf.data.Dataset:
        """Returns batches of the arrays, in the order of the current epoch.

        Args:
            *arrays: Images, labels and, if wanted, sample weights, of equal length.
            batch_size: Rows in a batch.
            drop_remainder: Whether a last smaller batch is left out.

        Returns:
            A data set of known cardinality.

        Raises:
            ValueError: If there are no arrays or their lengths differ.
        """
        owner = "EpochShuffle.dataset"
        checked_integer(owner, "batch_size", batch_size, low=1)
        lengths = [len(array) for array in arrays]
        if not arrays or len(set(lengths)) > 1 or not lengths[0]:
            rule = "arrays of one length of at least 1"
            raise invalid(owner, "arrays", rule, lengths)
        tensors = tuple(tf.convert_to_tensor(np.asarray(array)) for array in arrays)
        order = tf.data.Dataset.range(1).flat_map(
            lambda _: tf.data.Dataset.from_tensor_slices(self._order(lengths[0]))
        )
        batches = order.batch(batch_size, drop_remainder=drop_remainder)
        count = lengths[0] // batch_size
        if lengths[0] % batch_size and not drop_remainder:
            count += 1
        gathered = batches.map(
            lambda rows: tuple(tf.gather(tensor, rows) for tensor in tensors),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        counted = gathered.apply(tf.data.experimental.assert_cardinality(count))
        return counted.prefetch(2)

    def _order(self, count: int) -> tf.Tensor:
        key = tf.stack([self.seed, self.epoch.read_value()])
        return tf.random.experimental.stateless_shuffle(
            tf.range(count), key, alg="philox"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "EpochShuffle":
        """Returns an object made from `get_config`."""
        return cls(**config)

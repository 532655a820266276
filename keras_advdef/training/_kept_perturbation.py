"""KeptPerturbation: perturbations that outlive their batch, by position in it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_OWNER = "FreeAdversarialTrainingModel"


class KeptPerturbation(keras.layers.Layer):
    """Keeps one perturbation for each position in a batch, from one batch to the next.

    The first batch says how many there are. A smaller one uses and changes the first of
    them, a larger one goes round: the image at position `i` starts from position `i`
    modulo their number. Each replica of a strategy has its own, and the first one's are
    saved.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows: keras.Variable | None = None
        # A layer that is not built would be built by Keras, from no shape it knows.
        self.built = True

    def allocate(self, shape: Sequence[int | None]) -> None:
        """Makes room for a first batch, unless there is some.

        Args:
            shape: Shape of the images, with their number.

        Raises:
            ValueError: If a part of it is unknown.
        """
        if self.rows is not None:
            return
        if None in shape:
            raise ValueError(
                f"`{_OWNER}` expects a first batch of known shape where its step is "
                f"traced. Received: a shape of {tuple(shape)}. Use `fit`, or call "
                "`train_step` eagerly once."
            )
        with tf.init_scope():
            self.rows = keras.Variable(
                np.zeros([size or 0 for size in shape], "float32"),
                dtype="float32",
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",
                synchronization="on_read",
                name="perturbation",
            )

    def start(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the perturbations that the images of a batch start from.

        Args:
            images: The images.
        """
        rows = tf.convert_to_tensor(self.rows)
        places = tf.range(tf.shape(images)[0]) % rows.shape[0]
        return tf.ensure_shape(tf.gather(rows, places), images.shape)

    def keep(self, perturbation: tf.Tensor) -> None:
        """Keeps what was found for a batch.

        Args:
            perturbation: Tensor of the shape of its images.
        """
        variable: keras.Variable = self.rows
        rows = tf.convert_to_tensor(variable)
        kept = tf.concat([perturbation, rows[tf.shape(perturbation)[0] :]], axis=0)
        variable.assign(tf.ensure_shape(kept[: rows.shape[0]], rows.shape))

    def load_own_variables(self, store: Any) -> None:
        """Loads what was kept, whatever its number."""
        for name in store.keys():  # noqa: SIM118 - a file's store is not iterable
            self.allocate(store[name].shape)
        super().load_own_variables(store)

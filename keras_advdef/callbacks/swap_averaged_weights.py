"""SwapAveragedWeights: validates and saves the averaged weights of the optimizer."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.callbacks._batch_statistics import BatchStatistics, is_attacked
from keras_advdef.callbacks.catastrophic_overfitting_guard import (
    CatastrophicOverfittingGuard,
)
from keras_advdef.core.errors import checked_integer, invalid
from keras_advdef.core.image_source import is_dataset
from keras_advdef.core.keras_training import averaged_weights, running_callbacks
from keras_advdef.core.training_state import (
    assign_values,
    build_optimizer,
    values_of,
)

_OWNER = "SwapAveragedWeights"
_EARLIER = (keras.callbacks.BackupAndRestore, CatastrophicOverfittingGuard)
_LATER = (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint)


class SwapAveragedWeights(keras.callbacks.Callback):
    """Puts averaged weights into the model wherever it is measured or saved.

    With `use_ema=True` an optimizer of Keras keeps an exponential moving average of the
    weights, which is often more robust than the weights themselves. During validation,
    at the end of each epoch and after training, the model has the averaged weights;
    training goes on from the raw ones, restored bit for bit.

    Unlike `keras.callbacks.SwapEMAWeights` it also recomputes the statistics of
    BatchNormalization. The moving averages of activations are those of the raw weights,
    and say little about the averaged ones. So the given images pass through the model
    as in training, and mean and variance of what reaches each trainable layer become
    its statistics. Nothing else changes. A model without such layers needs no images.

    Callbacks before this one see the raw weights at the end of an epoch, and those
    after it the averaged ones. So `BackupAndRestore` and `CatastrophicOverfittingGuard`
    stand before it; `EarlyStopping`, `ModelCheckpoint` and `RobustAccuracy` after it.
    Keras itself writes the averages into the model at the end of `fit`; after that
    `EarlyStopping(restore_best_weights=True)` puts back those of its best epoch, with
    the statistics that belong to them.

    Args:
        images: Images from the training set, a thousand or more
            `(count, rows, cols, channels)`; or a `tf.data.Dataset` or `PyDataset` of
            batches, read from its beginning each time. `None` for a model without
            BatchNormalization.
        labels: Their labels, as `fit` takes them; `None` for those of the data set.
        adversarial: Whether an `AdversarialTrainingModel` makes the statistics of
            attacked images and with its objective, as a training step does, instead of
            clean images.
        batch_size: Images per pass, best as many as in training; a data set has its
            own.
        most: Most batches to read from a data set; `None` for all of them.

    Raises:
        ValueError: If `fit` starts without `use_ema=True`, without images or labels
            that are needed, or with callbacks in another order.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(),
    ...     keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.SGD(use_ema=True), loss)
    >>> x, y = np.full((4, 2, 2, 1), 3.0), np.zeros(4)
    >>> swap = keras_advdef.callbacks.SwapAveragedWeights(x)
    >>> history = model.fit(x, y, callbacks=[swap], verbose=0)
    >>> model.layers[1].moving_mean.numpy()
    array([3., 3., 3., 3.], dtype=float32)
    """

    def __init__(
        self,
        images: Any = None,
        labels: Any = None,
        *,
        adversarial: bool = True,
        batch_size: int = 128,
        most: int | None = 20,
    ) -> None:
        super().__init__()
        if images is not None and not is_dataset(images):
            images = np.asarray(images)
            if not images.ndim or not len(images):
                raise invalid(_OWNER, "images", "at least one image", images)
        if labels is not None:
            labels = np.asarray(labels)
            if not isinstance(images, np.ndarray) or len(labels) != len(images):
                raise invalid(_OWNER, "labels", "one for each image", labels)
        self.images = images
        self.labels = labels
        self.adversarial = bool(adversarial)
        self.batch_size = checked_integer(_OWNER, "batch_size", batch_size, low=1)
        self.most = most
        if most is not None:
            checked_integer(_OWNER, "most", most, low=1)
        self._is_training = False
        self._statistics: BatchStatistics | None = None
        # What the averaged weights replaced, and the statistics of a step's average.
        self._raw: list[np.ndarray] | None = None
        self._recomputed: tuple[int, list[np.ndarray]] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises if there is no average, or nothing to make statistics from."""
        self._raw, self._recomputed = None, None
        if not self._averages():
            rule = "one that averages weights"
            advice = "Compile with for example `keras.optimizers.SGD(use_ema=True)`."
            raise invalid(
                _OWNER, "optimizer", rule, self.model.optimizer, advice=advice
            )
        self._check_order()
        self._statistics = BatchStatistics(
            _OWNER, self.model, adversarial=self.adversarial
        )
        if self._statistics.layers:
            self._check_images()
        self._is_training = True

    def _check_order(self) -> None:
        callbacks = list(running_callbacks(self))
        place = callbacks.index(self)
        before = [each for each in callbacks[:place] if isinstance(each, _LATER)]
        after = [each for each in callbacks[place:] if isinstance(each, _EARLIER)]
        for found, side in ((before, "before"), (after, "after")):
            if found:
                name = type(found[0]).__name__
                other = "a later place" if side == "before" else "an earlier place"
                raise invalid(_OWNER, "callbacks", f"listed {side} `{name}`", other)

    def _check_images(self) -> None:
        if self.images is None:
            rule = "images, from which BatchNormalization gets statistics"
            raise invalid(_OWNER, "images", rule, None, advice="Pass training images.")
        is_unlabelled = self.labels is None and not is_dataset(self.images)
        if self.adversarial and is_attacked(self.model) and is_unlabelled:
            rule = "the labels of the images, which are attacked"
            advice = "Pass them, or `adversarial=False` for clean images."
            raise invalid(_OWNER, "labels", rule, None, advice=advice)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the raw weights back, for training."""
        self._put_back()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the averaged weights in, for validation during `fit`."""
        self._put_in()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the raw weights back, for the callbacks before this one."""
        self._put_back()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the averaged weights in, for the callbacks after this one."""
        self._put_in()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leaves the averaged weights in the model."""
        self._put_in()
        self._is_training, self._raw, self._statistics = False, None, None

    def _averages(self) -> list[tuple[keras.Variable, keras.Variable]]:
        build_optimizer(self.model)
        return averaged_weights(self.model.optimizer)

    def _put_in(self) -> None:
        """Puts averaged weights and their statistics in, once there are any."""
        steps = int(self.model.optimizer.iterations.numpy())
        if not self._is_training or self._raw is not None or not steps:
            return
        weights, averages = zip(*self._averages(), strict=True)
        self._raw = values_of([*weights, *self._statistics_variables()])
        assign_values(self.model, weights, values_of(averages))
        if self._recomputed is None or self._recomputed[0] != steps:
            self._recomputed = steps, self._recompute()
        assign_values(self.model, self._statistics_variables(), self._recomputed[1])

    def _put_back(self) -> None:
        if self._raw is None:
            return
        weights = [weight for weight, _ in self._averages()]
        variables = [*weights, *self._statistics_variables()]
        assign_values(self.model, variables, self._raw)
        self._raw = None

    def _statistics_variables(self) -> list[keras.Variable]:
        return [] if self._statistics is None else self._statistics.variables

    def _recompute(self) -> list[np.ndarray]:
        if self._statistics is None or not self._statistics.layers:
            return []
        return self._statistics.recomputed(_OWNER, self._batches())

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        """Yields images, and labels or `None`."""
        if not is_dataset(self.images):
            size = self.batch_size
            for start in range(0, len(self.images), size):
                rows = slice(start, start + size)
                labels = None if self.labels is None else self.labels[rows]
                yield self.images[rows], labels
            return
        batches = self.images
        if not isinstance(batches, tf.data.Dataset):
            known = batches.num_batches
            numbers = itertools.count() if known is None else range(known)
            batches = (self.images[number] for number in numbers)
        for batch in itertools.islice(batches, self.most):
            yield keras.utils.unpack_x_y_sample_weight(batch)[:2]

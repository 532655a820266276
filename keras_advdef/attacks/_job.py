"""The images of one `generate`: checked, handed out in batches, and their results."""

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._compiled_attack import CompiledAttack
from keras_advdef.attacks._guard import given
from keras_advdef.core.errors import checked_integer
from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.labels import checked_labels
from keras_advdef.core.model_inputs import check_image_shape
from keras_advdef.core.predictions import check_finite_logits, predicted_classes
from keras_advdef.core.random_numbers import fold_in, make_key
from keras_advdef.core.replicas import Replicas
from keras_advdef.core.value_range import checked_images

if TYPE_CHECKING:
    from keras_advdef.attacks.attack import Attack


class Job:
    """Checked inputs of one `generate` call, handed out in batches, and its result.

    Args:
        attack: The attack.
        model: The attacked model.
        images: Array `(count, rows, cols, channels)` or `(count, rows, cols)`.
        labels: The classes to leave, or to reach; `None` for the predictions.
        batch_size: Images per compiled call.
        seed: Integer or `None`.
        verbose: 0 for silence, 1 or "auto" for a progress bar.
        must_be_finite: Whether to refuse a model whose logits are not finite.
    """

    def __init__(
        self,
        attack: "Attack",
        model: Any,
        images: Any,
        labels: Any,
        *,
        batch_size: int,
        seed: int | None,
        verbose: str | int = 0,
        must_be_finite: bool = True,
    ) -> None:
        owner = type(attack).__name__
        self._attack = attack
        self._must_be_finite = must_be_finite
        self._looked_at: set[int] = set()
        self.range = attack.value_range
        self.shape = np.shape(images)
        self.images = checked_images(owner, images, self.range)
        self.count = len(self.images)
        size = checked_integer(owner, "batch_size", batch_size, low=1)
        self.size = min(size, self.count)
        self._replicas = Replicas.of_scope(owner)
        self.key = self._draw_key(seed)
        self.verbose = int(verbose in ("auto", 1))
        # Which values may change, with the axes of the images.
        self.mask: np.ndarray | None = None
        self.model = model
        self.logits_fn = attack.logits_function(model)
        check_image_shape(owner, model, self.images)
        self.logits_fn.build(self.shape[1:])
        self.compiled = CompiledAttack(attack, model)
        self.classes = self._count_classes()
        if labels is None:
            self.labels = self.predictions()
        else:
            checked_labels(owner, labels, count=self.count, classes=self.classes)
            self.labels = given(attack, labels).numpy()
        self._replicas.check_same(owner, self.images, self.labels, self.key.numpy())

    def _draw_key(self, seed: int | None) -> tf.Tensor:
        """Returns the key of all draws, the same on all workers."""
        if seed is not None:
            return make_key(seed)
        agreed = self._replicas.agreed(lambda: {"key": make_key(None).numpy()})
        return tf.constant(agreed["key"])

    def _count_classes(self) -> int:
        known = self.compiled.classes(self.batch(slice(0, self.size)))
        return self._first.shape[1] if known is None else known

    @functools.cached_property
    def _first(self) -> np.ndarray:
        return self._logits(slice(0, self.size))

    @functools.cached_property
    def result(self) -> np.ndarray:
        """The adversarial images; clean ones until others are found."""
        images = self.images.astype(np.float32)
        return np.clip(images, self.range.low, self.range.high, out=images)

    @functools.cached_property
    def _losses(self) -> np.ndarray:
        return np.full(self.count, -np.inf, np.float32)

    def craft_batches(self, epsilon: tf.Tensor) -> None:
        """Fills the result batch by batch, each run to its end.

        Args:
            epsilon: Radius on the `[0, 1]` scale.
        """

        def craft(rows: slice, key: tf.Tensor) -> np.ndarray:
            labels = tf.constant(pad_rows(self.labels[rows], self.size))
            images, mask = self.batch(rows), self.masks(rows)
            found, is_finite = self.compiled.craft(images, labels, epsilon, key, mask)
            self.check_batch(rows, is_finite)
            return found.numpy()

        self.fill_batches(craft)

    def fill_batches(self, craft: Callable[[slice, tf.Tensor], np.ndarray]) -> None:
        """Fills the result batch by batch; each replica of a strategy takes its share.

        Args:
            craft: Returns the adversarial images of a batch, padded or not, for its
                rows and its key.
        """
        progress, slices = self.progress(self.count), self.slices()
        done, lock = 0, threading.Lock()

        def work(index: int) -> dict[str, np.ndarray]:
            nonlocal done
            rows = slices[index]
            found = craft(rows, fold_in(self.key, index))[: len(self.images[rows])]
            with lock:
                done += len(found)
                progress.update(done)
            return {"images": found}

        for rows, part in zip(
            slices, self._replicas.map(work, range(len(slices))), strict=True
        ):
            self.result[rows] = part["images"]
        if self._replicas.has_workers:
            progress.update(self.count)

    def keep(self, index: int, image: np.ndarray, loss: float, broken: bool) -> None:
        """Stores the end of a run if it is the best of its image so far.

        Args:
            index: Which image it is.
            image: Where the run ended, in `[0, 1]`.
            loss: Its loss.
            broken: Whether it succeeds, so that no other run follows.
        """
        if broken or loss >= self._losses[index]:
            self.result[index] = self.range.pixels_of(image)
            self._losses[index] = loss

    def progress(self, total: int) -> keras.utils.Progbar:
        """Returns a progress bar over images, silent unless `verbose` is set."""
        return keras.utils.Progbar(total, verbose=self.verbose, unit_name="image")

    def batch(self, rows: slice | np.ndarray, size: int | None = None) -> tf.Tensor:
        """Returns some images as float32, padded to `size`, by default the batch's."""
        images = self.images[rows].astype(np.float32)
        np.clip(images, self.range.low, self.range.high, out=images)
        return tf.constant(pad_rows(images, size or self.size))

    def masks(
        self, rows: slice | np.ndarray, size: int | None = None
    ) -> tuple[tf.Tensor, ...]:
        """Returns the mask of some images, padded like them, alone in a tuple.

        Without a mask, the tuple is empty.
        """
        if self.mask is None:
            return ()
        whole = np.broadcast_to(self.mask, self.images.shape)
        return (tf.constant(pad_rows(whole[rows], size or self.size)),)

    def slices(self) -> list[slice]:
        """Returns the rows of each batch."""
        starts = range(0, self.count, self.size)
        return [slice(start, start + self.size) for start in starts]

    def predictions(self) -> np.ndarray:
        """Returns the predicted class of each clean image."""
        logits = self._replicas.map(
            lambda rows: {"logits": self._logits(rows)}, self.slices()[1:]
        )
        rest = (each["logits"] for each in logits)
        return predicted_classes(np.concatenate([self._first, *rest]))

    def check(self) -> None:
        """Raises if a clean image has no finite logits; see `check_batch`."""
        for rows in self.slices():
            self.check_batch(rows)

    def check_batch(self, rows: slice, is_finite: tf.Tensor | None = None) -> None:
        """Raises if a clean image of a batch has no finite logits.

        Args:
            rows: The batch.
            is_finite: What the attack has seen; `None` for one more forward pass.

        Raises:
            ValueError: If it has not.
        """
        if is_finite is not None:
            self._check_finite("model", self.model, is_finite.numpy(), rows)
        elif rows.start not in self._looked_at:
            self._logits(rows)
        for name, model in self._attack.companions().items():
            compiled = CompiledAttack(self._attack, model)
            logits = compiled.logits(self.batch(rows), fold_in(self.key, rows.start))
            is_finite = np.isfinite(logits.numpy()).all(axis=1)
            self._check_finite(name, model, is_finite, rows)

    def _check_finite(
        self, name: str, model: Any, is_finite: np.ndarray, rows: slice
    ) -> None:
        owner, seen = type(self._attack).__name__, is_finite[: len(self.images[rows])]
        check_finite_logits(owner, name, model, seen, first=rows.start)
        self._looked_at.add(rows.start)

    def _logits(self, rows: slice) -> np.ndarray:
        key = fold_in(self.key, rows.start)
        count = len(self.images[rows])
        logits = self.compiled.logits(self.batch(rows), key).numpy()[:count]
        if self._must_be_finite:
            is_finite = np.isfinite(logits).all(axis=1)
            self._check_finite("model", self.model, is_finite, rows)
        return logits


class SubJob:
    """Some images of a job for another attack; only successes are stored.

    Args:
        job: The whole job.
        attack: The attack that takes over.
        rows: Indices of its images.
        key: Key for its draws.
    """

    def __init__(
        self, job: Job, attack: "Attack", rows: np.ndarray, key: tf.Tensor
    ) -> None:
        self._job = job
        self._rows = rows
        self.key = key
        self.range = job.range
        self.count = len(rows)
        # The whole job's size, so that all attacks share its few block sizes.
        self.size = job.size
        self.labels = job.labels[rows]
        self.classes = job.classes
        self.progress = job.progress
        self.broken = np.zeros(self.count, bool)
        self.logits_fn = attack.logits_function(job.model)
        self.compiled = CompiledAttack(attack, job.model)

    def check(self) -> None:
        """Does nothing: the whole job has been checked."""

    def batch(self, rows: slice | np.ndarray, size: int) -> tf.Tensor:
        """Returns some images as float32, padded to `size`; see `Job.batch`."""
        return self._job.batch(self._rows[rows], size)

    def masks(self, rows: slice | np.ndarray, size: int) -> tuple[tf.Tensor, ...]:
        """Returns the mask of some images; see `Job.masks`."""
        return self._job.masks(self._rows[rows], size)

    def keep(self, index: int, image: np.ndarray, loss: float, broken: bool) -> None:
        """Stores a success in the whole job's result; see `Job.keep`."""
        del loss
        if broken:
            self.broken[index] = True
            self._job.result[self._rows[index]] = self.range.pixels_of(image)

"""Judge: decides which images a model misclassifies, by its own forward passes."""

import copy
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.predictions import predicted_classes
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.replicas import Replicas
from keras_advdef.core.traced_function import TracedFunction
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._request.derived_seed import derived_seed


class Judged(NamedTuple):
    """What a judge says about attacked images, each array `(count,)`.

    Attributes:
        wrong: Number of draws in which each image fools the model.
        predicted: Class predicted in the first draw.
        undecided: Whether the model gives NaN or infinity in any draw.
    """

    wrong: np.ndarray
    predicted: np.ndarray
    undecided: np.ndarray


class Judge:
    """Evaluates a model in batches of one size, with draws fixed by a seed.

    The success of every attack is measured here, whatever the attack itself reports,
    and on the very image that it returned.
    An image for which the model gives NaN or infinity decides nothing: it has not
    fooled the model, and is reported as such.

    Args:
        model: A Keras model, function or `ModelView`.
        value_range: Range of the pixels.
        batch_size: Images per pass.
        rejected: The class that stands for "adversarial", or `None`. An image
            classified as such has not fooled the model.
    """

    def __init__(
        self,
        model: Any,
        *,
        value_range: ValueRange,
        batch_size: int,
        rejected: int | None = None,
    ) -> None:
        self.logits_fn = LogitsFunction(model, value_range=value_range)
        self.value_range = value_range
        self.batch_size = batch_size
        self.rejected = rejected
        self.run = TracedFunction(self._forward)

    def rejecting(self, label: int) -> "Judge":
        """Returns a judge that takes a class for a detection.

        It shares the compiled function with this judge, which stays unchanged.

        Args:
            label: The class that stands for "adversarial".
        """
        other = copy.copy(self)
        other.rejected = label
        return other

    def alone(self) -> "Judge":
        """Returns a judge that asks about each image in a batch of its own."""
        other = copy.copy(self)
        other.batch_size = 1
        return other

    def _forward(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        with draw_scope(key):
            return self.logits_fn.on_pixels(images)

    def logits(self, images: np.ndarray, seed: int) -> np.ndarray:
        """Returns float32 logits, `(count, classes)`.

        Args:
            images: Array `(count, rows, cols, channels)` in the value range.
            seed: Fixes the draws of a random model.
        """
        self.logits_fn.build(images.shape[1:])

        def look(start: int) -> dict[str, np.ndarray]:
            batch = images[start : start + self.batch_size].astype(np.float32)
            key = make_key(derived_seed(seed, start))
            full = tf.constant(pad_rows(batch, self.batch_size))
            return {"logits": self.run(full, key).numpy()[: len(batch)]}

        starts = range(0, len(images), self.batch_size)
        found = Replicas.of_scope("Judge").map(look, starts)
        return np.concatenate([each["logits"] for each in found])

    def evaluate(
        self, images: np.ndarray, labels: np.ndarray, *, draws: int, seed: int
    ) -> Judged:
        """Evaluates attacked images on fresh draws.

        Args:
            images: Attacked images in the value range.
            labels: Their true classes.
            draws: Number of fresh draws.
            seed: Fixes the draws.
        """
        seeds = [derived_seed(seed, "judge", draw) for draw in range(draws)]
        logits = self.logits(images, seeds[0])
        counts = self.fooled(logits, labels).astype(np.int64)
        undecided = ~_decided(logits)
        for each in seeds[1:]:
            again = self.logits(images, each)
            counts += self.fooled(again, labels)
            undecided |= ~_decided(again)
        return Judged(counts, predicted_classes(logits), undecided)

    def wrong(
        self, images: np.ndarray, labels: np.ndarray, *, draws: int, seed: int
    ) -> np.ndarray:
        """Returns the number of draws in which each image fools the model.

        Args:
            images: Attacked images in the value range.
            labels: Their true classes.
            draws: Number of fresh draws.
            seed: Fixes the draws.
        """
        return self.evaluate(images, labels, draws=draws, seed=seed).wrong

    def fooled(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns which logits are undetected misclassifications, `(count,)`.

        Args:
            logits: Logits, `(count, classes)`.
            labels: The true classes.
        """
        predicted = predicted_classes(logits)
        wrong = (predicted != labels) & _decided(logits)
        return wrong if self.rejected is None else wrong & (predicted != self.rejected)


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the largest other logit minus that of the label, in float64, `(count,)`.

    Args:
        logits: Logits, `(count, classes)`; those that are not finite have no margin.
        labels: The true classes.

    Example:

    >>> from keras_advdef.evaluation._run.judge import margins
    >>> margins(np.array([[2.0, 5.0, 4.0]]), np.array([0]))
    array([3.])
    """
    others, places = logits.astype(np.float64), np.arange(len(labels))
    own = others[places, labels]
    others[places, labels] = -np.inf
    return others.max(axis=1) - own


def _decided(logits: np.ndarray) -> np.ndarray:
    """Returns which rows are finite; those of excluded classes are, see `finite_masks`.

    NumPy and TensorFlow do not agree on the `argmax` of others.
    """
    return np.isfinite(logits).all(axis=-1)

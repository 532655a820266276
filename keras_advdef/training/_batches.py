"""The batches that Keras hands to a step, and the check of the first of them."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


class Batch(NamedTuple):
    """What a step trains on, as Keras hands it over."""

    images: tf.Tensor
    labels: Any
    weights: tf.Tensor | None


StepFunction = Callable[[Iterator[Any]], Any]


def only_value(given: Any) -> Any:
    """Returns the value of a list or dictionary of one, and anything else as it is.

    Args:
        given: Images, labels, outputs or a loss.
    """
    leaves = keras.tree.flatten(given)
    return leaves[0] if len(leaves) == 1 else given


def unpack_batch(data: Any) -> tuple[Any, Any, Any]:
    """Returns the images, labels and sample weights of a batch.

    Args:
        data: What Keras hands to a step. Each part may be the only value of a list or
            dictionary.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    return only_value(images), only_value(labels), only_value(weights)


class FirstBatchCheck:
    """A step function of Keras that checks its first batch as concrete arrays.

    Keras hands an iterator of batches to the function, wherever the data come from. No
    batch is lost or drawn twice, and the function is not traced again.

    Args:
        function: What Keras made of a training or test step.
        check: Takes images and labels as NumPy arrays, those of one replica.
        steps: Batches that one call of the function takes.
        strategy: Distributes the batches over replicas.
    """

    def __init__(
        self,
        function: StepFunction,
        check: Callable[[Any, Any], None],
        *,
        steps: int,
        strategy: tf.distribute.Strategy,
    ) -> None:
        self._function = function
        self._check = check
        self._steps = steps
        self._strategy = strategy
        # Set again whenever `fit` or `evaluate` gets new data.
        self.is_due = True

    def __call__(self, iterator: Iterator[Any]) -> Any:
        """Returns what the function returns for the next batches."""
        if self.is_due:
            iterator = self._checked(iterator)
            self.is_due = False
        return self._function(iterator)

    def _checked(self, iterator: Iterator[Any]) -> Any:
        batches = list(itertools.islice(iterator, self._steps))
        if not batches:
            raise StopIteration
        images, labels, _ = unpack_batch(
            keras.tree.map_structure(self._array, batches[0])
        )
        self._check(images, labels)
        if not isinstance(iterator, tf.data.Iterator):
            return batches
        spec = iterator.element_spec
        if not all(isinstance(each, tf.TensorSpec) for each in tf.nest.flatten(spec)):
            return batches
        # Of the type of the iterator that goes on, so that one trace serves both.
        dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)
        return iter(dataset)

    def _array(self, value: Any) -> np.ndarray | None:
        """Returns a tensor's array, that of one replica where there are several."""
        if isinstance(value, tf.experimental.Optional):
            return None
        value = self._strategy.experimental_local_results(value)[0]
        return value.numpy() if isinstance(value, tf.Tensor) else value


def check_first_batch(
    model: keras.Model,
    function: StepFunction,
    check: Callable[[Any, Any], None],
) -> FirstBatchCheck:
    """Returns a step function of a model that checks its next batch.

    Args:
        model: The model that is trained or evaluated.
        function: What Keras made of its step, or what this returned for it.
        check: Takes the images and labels of a batch, as NumPy arrays.
    """
    if isinstance(function, FirstBatchCheck):
        function.is_due = True
        return function
    return FirstBatchCheck(
        function,
        check,
        steps=model.steps_per_execution,
        strategy=model.distribute_strategy,
    )

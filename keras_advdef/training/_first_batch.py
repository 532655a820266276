"""A look at the first batch of `fit` and `evaluate`, before a step is made of it."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.training._parts import parts_of


class FirstBatch:
    """A step function of Keras whose first batch is checked while it is concrete.

    Whatever the data come from, Keras hands an iterator of batches to the function; no
    batch is lost, drawn twice or traced anew.

    Args:
        function: What Keras made of a training or test step.
        check: Takes a batch of NumPy arrays, that of one replica.
        steps: Batches that one call of the function takes.
        strategy: Distributes the batches over replicas.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        check: Callable[[Any], None],
        *,
        steps: int,
        strategy: tf.distribute.Strategy,
    ) -> None:
        self._function = function
        self._check = check
        self._steps = steps
        self._strategy = strategy
        # Set again whenever new data come.
        self.is_due = True

    def __call__(self, iterator: Any) -> Any:
        """Returns what the function returns for the next batches."""
        if self.is_due:
            iterator = self._looked_at(iterator)
            self.is_due = False
        return self._function(iterator)

    def _looked_at(self, iterator: Any) -> Iterable[Any]:
        batches = list(itertools.islice(iterator, self._steps))
        if not batches:
            raise StopIteration
        self._check(keras.tree.map_structure(self._array, batches[0]))
        if not isinstance(iterator, tf.data.Iterator):
            return batches
        spec = iterator.element_spec
        if not all(isinstance(each, tf.TensorSpec) for each in tf.nest.flatten(spec)):
            return batches
        # Of the same type as the one that goes on, so that it is traced once for both.
        dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)
        return iter(dataset)

    def _array(self, value: Any) -> Any:
        """Returns a tensor's array, that of one replica where there are several."""
        if isinstance(value, tf.experimental.Optional):
            return None
        value = self._strategy.experimental_local_results(value)[0]
        return value.numpy() if isinstance(value, tf.Tensor) else value


def checking_first(
    model: keras.Model,
    function: Callable[[Any], Any],
    check: Callable[[Any, Any], None],
) -> FirstBatch:
    """Returns a step function of a model whose next batch is checked.

    Args:
        model: The model that trains or is tested.
        function: What Keras made of its step, or what this returned for it.
        check: Takes the images and labels of a batch, as NumPy arrays.
    """
    if isinstance(function, FirstBatch):
        function.is_due = True
        return function
    return FirstBatch(
        function,
        lambda batch: check(*parts_of(batch)[:2]),
        steps=model.steps_per_execution,
        strategy=model.distribute_strategy,
    )

"""FiniteStep: one step of training, undone unless all that it leaves is finite."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

# In this order a sentence names the first that was not finite.
DATA = ("images", "labels", "sample_weight")
NAMES = (*DATA, "loss", "gradients", "weights")
# What a record begins with: steps that went well, and the size of what they left.
_HEAD = 2
# Below these sums of squares, and this rate, no optimizer of Keras overflows in a step:
# squares of gradients, and quotients by the square root of one plus 1e-8, stay under
# float32's 3e38.
_LARGEST_STATE, _LARGEST_GRADIENT, _LARGEST_RATE = 1e30, 1e24, 1e6
# A loss scale so small that float16 can hold nothing of the gradient is no cure.
_SMALLEST_SCALE = 2.0**-24


def new_record() -> tf.Variable:
    """Returns what the steps of a model record, on each replica the same."""
    return tf.Variable(
        empty_record(),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def empty_record() -> list[float]:
    """Returns a record of no steps; of what is there the size is not known."""
    return [0.0, float("inf"), *[0.0] * len(NAMES)]


class FiniteStep:
    """A step that never happened if its images, its loss or its weights are bad.

    The values from before are held, and come back at the end if there is a NaN or an
    infinity. To hold what the step then writes costs a copy of it. What only the
    optimizer writes is held just where gradients are not finite, or so large that
    its update may overflow. Nothing here waits for the device.

    Args:
        record: Variable from `new_record`.
        held: Variables to hold from the start.
        trained: Further ones, which only the optimizer writes.
        batch: `images`, `labels` and `sample_weight`, or some of them; arrays,
            structures of arrays or `None`.
        is_watched: Whether somebody reads the record: after a bad step later ones, such
            as those of the same execution, change nothing until it is emptied.
    """

    def __init__(
        self,
        record: tf.Variable,
        held: Sequence[keras.Variable],
        trained: Sequence[keras.Variable],
        batch: Mapping[str, Any],
        *,
        is_watched: bool = True,
    ) -> None:
        self._record = record
        self._before = record.read_value()
        was_good = tf.reduce_all(tf.math.is_finite(self._before[_HEAD:]))
        self._is_over = ~was_good if is_watched else tf.constant(False)
        self._held = [variable.value for variable in held]
        self._trained = [variable.value for variable in trained]
        self._values = [variable.read_value() for variable in self._held]
        self._trained_values: list[tf.Tensor] = []
        self._is_alarming = tf.constant(True)
        parts = [_floats(batch.get(name)) for name in DATA]
        self._flaws = [_flaw(part, _size(part)) for part in parts]
        self._loss_flaw = self._gradients_flaw = self._scale_flaw = tf.constant(0.0)
        self._held_flaw = tf.constant(0.0)

    def look(self, loss: tf.Tensor, gradients: Sequence[Any], optimizer: Any) -> None:
        """Looks at what an optimizer is about to apply, and holds what it writes.

        Args:
            loss: The loss, not scaled.
            gradients: Its gradients, `None` among them; scaled, if it scales them.
            optimizer: The built optimizer.
        """
        given, gradients = _floats(loss), _floats(gradients)
        self._loss_flaw += _flaw(given, _size(given))
        size = _size(gradients)
        flaw = _flaw(gradients, size)
        self._gradients_flaw += flaw
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            is_least = optimizer.dynamic_scale.value < _SMALLEST_SCALE
            self._scale_flaw += tf.where(is_least, flaw, 0.0)
        if self._trained and not self._trained_values:
            rate = tf.cast(optimizer.learning_rate, tf.float32)
            is_calm = (self._before[1] < _LARGEST_STATE) & (size < _LARGEST_GRADIENT)
            is_calm &= (tf.abs(rate) < _LARGEST_RATE) & ~self._is_over
            # Such as the moving statistics of a batch, which its images move.
            self._held_flaw, _ = self._left_in(self._held)
            flaws = [*self._flaws, self._loss_flaw, self._held_flaw]
            is_calm &= tf.math.is_finite(tf.add_n(flaws))
            self._hold_trained(~is_calm)

    def _hold_trained(self, is_alarming: tf.Tensor) -> None:
        self._is_alarming = is_alarming
        self._trained_values = tf.cond(
            is_alarming,
            lambda: [variable.read_value() for variable in self._trained],
            lambda: [tf.zeros([0], variable.dtype) for variable in self._trained],
        )

    def end(self) -> None:
        """Ends the step: what it left stays, or what was there before comes back."""
        flaw, size = self._left()
        weights_flaw = flaw + self._held_flaw
        # A gradient that does no harm is none: some optimizers clip or skip it.
        did_harm = ~tf.math.is_finite(weights_flaw)
        gradients_flaw = tf.where(did_harm, self._gradients_flaw, self._scale_flaw)
        flaws = [*self._flaws, self._loss_flaw, gradients_flaw, weights_flaw]
        context = tf.distribute.get_replica_context()
        total = tf.stack(flaws)
        if context.num_replicas_in_sync > 1:
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, total)
        is_bad = self._is_over | ~tf.reduce_all(tf.math.is_finite(total))
        values = (is_bad, self._is_alarming, self._values, self._trained_values)
        # In a replica a condition must not reach what all replicas share.
        context.merge_call(self._settle, args=values)
        head = tf.stack([self._before[0] + tf.cast(~is_bad, tf.float32), size])
        after = tf.where(self._is_over, self._before, tf.concat([head, total], axis=0))
        self._record.assign(after)

    def _left(self) -> tuple[tf.Tensor, tf.Tensor]:
        if not self._trained:
            return self._left_in(self._held)
        # What was held from the start was looked at before. And finite gradients of no
        # alarming size leave nothing else in an optimizer's own variables.
        weights = [each for each in self._trained if each.trainable]
        return tf.cond(
            self._is_alarming,
            lambda: self._left_in(self._trained),
            lambda: self._left_in(weights),
        )

    @staticmethod
    def _left_in(variables: Sequence[tf.Variable]) -> tuple[tf.Tensor, tf.Tensor]:
        values = _floats([each.read_value() for each in variables])
        size = _size(values)
        return _flaw(values, size), size

    def _settle(
        self,
        strategy: tf.distribute.Strategy,
        is_bad: Any,
        is_alarming: Any,
        held: Any,
        trained: Any,
    ) -> tf.Tensor:
        local = strategy.experimental_local_results

        def restore(variables: Sequence[Any], values: Sequence[Any]) -> tf.Tensor:
            for variable, value in zip(variables, values, strict=True):
                # One variable may be that of all replicas, which all held it.
                for part, old in zip(local(variable), local(value), strict=False):
                    part.assign(old)
            return tf.constant(True)

        # Each replica has the same, from the sum over all.
        is_bad, is_alarming = local(is_bad)[0], local(is_alarming)[0]
        tf.cond(is_bad, lambda: restore(self._held, held), lambda: False)
        if not trained:
            return is_bad
        is_held = is_bad & is_alarming
        return tf.cond(is_held, lambda: restore(self._trained, trained), lambda: False)


def without_flaws(values: Any) -> Any:
    """Returns arrays with 0 in place of what is not finite.

    Of labels, where TensorFlow would fail in the midst of a step that is to be undone.

    Args:
        values: An array, a structure of arrays or `None`.
    """

    def mended(each: Any) -> Any:
        if each is None or not tf.as_dtype(each.dtype).is_floating:
            return each
        return tf.where(tf.math.is_finite(each), each, tf.zeros_like(each))

    return tf.nest.map_structure(mended, values)


def _floats(values: Any) -> list[tf.Tensor]:
    """Returns the floating-point tensors of a structure, none of them in halves."""
    given = [each for each in tf.nest.flatten(values) if each is not None]
    dense = [
        each.values if isinstance(each, tf.IndexedSlices) else each for each in given
    ]
    tensors = map(tf.convert_to_tensor, dense)
    return [
        tf.cast(each, tf.float32) if each.dtype.size < tf.float32.size else each
        for each in tensors
        if each.dtype.is_floating
    ]


def _size(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns half the sum of squares: one pass tells whether all is finite."""
    # The one kernel that writes nothing on the way: a quarter of `abs` and a sum.
    sums = [tf.cast(tf.nn.l2_loss(each), tf.float32) for each in tensors]
    return tf.add_n(sums) if sums else tf.constant(0.0)


def _flaw(tensors: Sequence[tf.Tensor], size: tf.Tensor) -> tf.Tensor:
    """Returns 0 if all is finite, else what is not, infinity or NaN."""

    def exact() -> tf.Tensor:
        # Finite numbers can have infinite squares.
        are = [tf.reduce_all(tf.math.is_finite(each)) for each in tensors]
        return tf.where(tf.reduce_all(are), 0.0, size)

    if not tensors:
        return tf.constant(0.0)
    return tf.cond(tf.math.is_finite(size), lambda: 0.0, exact)

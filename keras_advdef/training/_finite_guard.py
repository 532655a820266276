"""Undoes training steps that are not finite, and stops training after one.

`FiniteStep` is one step: it saves what the step will write, checks what it wrote and
puts the old values back. `FiniteGuard` is the training: it begins each step and raises
after one that was undone.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.core.traced_function import outside_of_traces
from keras_advdef.training._batches import StepFunction
from keras_advdef.training._replicas import assign_on_replicas

DATA = ("images", "labels", "sample_weight")
# The error names the first of these that was not finite.
NAMES = (*DATA, "loss", "gradients", "weights")
# A record begins with two numbers: the steps so far, and the size of the variables.
_HEAD = 2
# Below these sums of squares and this learning rate no optimizer of Keras overflows in
# a step: squares of gradients, and quotients by the square root of one plus 1e-8, stay
# under float32's 3e38.
_LARGEST_STATE, _LARGEST_GRADIENT, _LARGEST_RATE = 1e30, 1e24, 1e6
# At a smaller loss scale float16 holds nothing of the gradient.
_SMALLEST_SCALE = 2.0**-24


class FiniteGuard(keras.callbacks.Callback):
    """Stops training after a step that is not finite, with the last finite weights.

    The error leaves the step function, so that no other callback sees the batch. As a
    callback the guard only learns which epoch it is.

    Args:
        owner: Name of the class that trains.
    """

    def __init__(self, owner: str) -> None:
        super().__init__()
        self._owner = owner
        self._record = new_record()
        self._variables: Sequence[keras.Variable] = ()
        self._raising: StepFunction | None = None
        self._epoch: int | None = None

    def begin(
        self,
        batch: Mapping[str, Any],
        written: Sequence[keras.Variable],
        trained: Sequence[keras.Variable] = (),
    ) -> "FiniteStep":
        """Begins a step, in whatever graph it is traced; see `FiniteStep`.

        Args:
            batch: Images, labels and sample weights by name.
            written: Variables that the step may write.
            trained: Further variables, which only the optimizer writes.
        """
        self._variables = [*written, *trained]
        # A user's own training loop calls no function that raises after a bad step.
        raises = self._raising is not None
        return FiniteStep(self._record, written, trained, batch, raises=raises)

    def begin_model_step(
        self,
        model: keras.Model,
        batch: Mapping[str, Any],
        variables: Sequence[keras.Variable],
        *,
        updates: int = 1,
    ) -> "FiniteStep":
        """Begins a step of a model with one optimizer.

        Args:
            model: A built and compiled model.
            batch: Images, labels and sample weights by name.
            variables: Variables of the model that a step may write.
            updates: How often the optimizer is applied.
        """
        trained = model.trainable_variables
        if not model.optimizer.built:
            with outside_of_traces():
                model.optimizer.build(trained)
        known = {id(each) for each in trained}
        others = [each for each in variables if id(each) not in known]
        trained = [*trained, *model.optimizer.variables]
        # Branches must give equal shapes in XLA, and replicas must take the same one.
        # A first update may go well and a later one not.
        replicas = model.distribute_strategy.num_replicas_in_sync
        if model.jit_compile or replicas > 1 or updates > 1:
            return self.begin(batch, [*others, *trained])
        return self.begin(batch, others, trained)

    def raising(self, function: StepFunction) -> StepFunction:
        """Returns a training function that raises after a step that was undone.

        Args:
            function: What Keras made of a training step, or what this returned for it.
        """
        if function is self._raising:
            return function

        def raising(iterator: Iterator[Any]) -> Any:
            logs = function(iterator)
            self._raise_if_undone()
            return logs

        self._raising = raising
        return raising

    def among_callbacks(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Returns the arguments of `fit` by name, with this as the first callback.

        Args:
            *args: As in `keras.Model.fit`.
            **kwargs: As in `keras.Model.fit`.
        """
        given = inspect.signature(keras.Model.fit).bind(None, *args, **kwargs).arguments
        del given["self"]
        callbacks = given.get("callbacks")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [self, *keras.tree.flatten(callbacks or [])]
        elif self not in callbacks.callbacks:
            callbacks.callbacks.insert(0, self)
        return {**given, "callbacks": callbacks}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the epoch, and counts batches from its first."""
        self._epoch = epoch
        self._record.assign(empty_record())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets the epoch."""
        self._epoch = None

    def _raise_if_undone(self) -> None:
        steps, _, *flaws = self._record.numpy()
        bad = [i for i, flaw in enumerate(flaws) if not np.isfinite(flaw)]
        if not bad:
            return
        place = "its last batch"
        if self._epoch is not None:
            place = f"batch {int(steps) + 1} of epoch {self._epoch + 1}"
        self._epoch = None
        self._record.assign(empty_record())
        name, value = NAMES[bad[0]], float(flaws[bad[0]])
        rule = f"finite, which failed in {place}"
        raise invalid(self._owner, name, rule, value, advice=self._advice(name))

    def _advice(self, name: str) -> str:
        values = (keras.ops.convert_to_numpy(each) for each in self._variables)
        if not all(np.isfinite(value).all() for value in values):
            return "Load finite weights into the model before it is trained."
        kept = "The model keeps the weights it had before that batch"
        if name in DATA:
            return f"{kept}. Mend the data, or leave such examples out."
        return f"{kept}. A lower learning rate, or `clipnorm`, may help."


class FiniteStep:
    """One training step, undone if its data, its loss or its weights are not finite.

    The values from before are saved, and restored at the end if there is a NaN or an
    infinity. Saving what the step then writes costs a copy. What only the optimizer
    writes is saved just where gradients are not finite, or so large that the update may
    overflow. Nothing here waits for the device.

    Args:
        record: Variable from `new_record`.
        written: Variables to save from the start.
        trained: Further variables, which only the optimizer writes.
        batch: `images`, `labels` and `sample_weight`, or some of them; arrays,
            structures of arrays or `None`.
        raises: Whether training stops after a step that was undone. Until then later
            steps, such as those of the same execution, change nothing.
    """

    def __init__(
        self,
        record: tf.Variable,
        written: Sequence[keras.Variable],
        trained: Sequence[keras.Variable],
        batch: Mapping[str, Any],
        *,
        raises: bool = True,
    ) -> None:
        self._record = record
        self._before = record.read_value()
        was_good = tf.reduce_all(tf.math.is_finite(self._before[_HEAD:]))
        self._is_stopped = ~was_good if raises else tf.constant(False)
        self._written = [variable.value for variable in written]
        self._trained = [variable.value for variable in trained]
        self._values = [variable.read_value() for variable in self._written]
        self._trained_values: list[tf.Tensor] = []
        self._is_alarming = tf.constant(True)
        parts = [_floats(batch.get(name)) for name in DATA]
        self._flaws = [_flaw(part, _size(part)) for part in parts]
        self._loss_flaw = self._gradients_flaw = self._scale_flaw = tf.constant(0.0)
        self._written_flaw = tf.constant(0.0)

    def check_update(
        self,
        loss: tf.Tensor,
        gradients: Sequence[tf.Tensor | None],
        optimizer: keras.optimizers.Optimizer,
    ) -> None:
        """Checks what an optimizer is about to apply, and saves what it will write.

        Args:
            loss: The loss, not scaled.
            gradients: Its gradients, scaled if the optimizer scales the loss.
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
            is_calm &= (tf.abs(rate) < _LARGEST_RATE) & ~self._is_stopped
            # Such as moving averages, which the forward pass has updated.
            self._written_flaw, _ = self._flaw_and_size(self._written)
            flaws = [*self._flaws, self._loss_flaw, self._written_flaw]
            is_calm &= tf.math.is_finite(tf.add_n(flaws))
            self._save_trained(~is_calm)

    def _save_trained(self, is_alarming: tf.Tensor) -> None:
        self._is_alarming = is_alarming
        self._trained_values = tf.cond(
            is_alarming,
            lambda: [variable.read_value() for variable in self._trained],
            lambda: [tf.zeros([0], variable.dtype) for variable in self._trained],
        )

    def end(self) -> None:
        """Ends the step: keeps what it wrote, or restores what was there before."""
        flaw, size = self._flaw_and_size_at_end()
        weights_flaw = flaw + self._written_flaw
        # Some optimizers clip or skip a gradient that is not finite: no harm done.
        did_harm = ~tf.math.is_finite(weights_flaw)
        gradients_flaw = tf.where(did_harm, self._gradients_flaw, self._scale_flaw)
        flaws = [*self._flaws, self._loss_flaw, gradients_flaw, weights_flaw]
        context = tf.distribute.get_replica_context()
        total = tf.stack(flaws)
        if context.num_replicas_in_sync > 1:
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, total)
        is_bad = self._is_stopped | ~tf.reduce_all(tf.math.is_finite(total))
        values = (is_bad, self._is_alarming, self._values, self._trained_values)
        # A condition inside a replica must not write what all replicas share.
        context.merge_call(self._settle, args=values)
        head = tf.stack([self._before[0] + tf.cast(~is_bad, tf.float32), size])
        after = tf.where(
            self._is_stopped, self._before, tf.concat([head, total], axis=0)
        )
        self._record.assign(after)

    def _flaw_and_size_at_end(self) -> tuple[tf.Tensor, tf.Tensor]:
        if not self._trained:
            return self._flaw_and_size(self._written)
        # What was saved from the start is checked already, and finite gradients of no
        # alarming size cannot break the optimizer's own variables.
        weights = [each for each in self._trained if each.trainable]
        return tf.cond(
            self._is_alarming,
            lambda: self._flaw_and_size(self._trained),
            lambda: self._flaw_and_size(weights),
        )

    @staticmethod
    def _flaw_and_size(variables: Sequence[tf.Variable]) -> tuple[tf.Tensor, tf.Tensor]:
        values = _floats([each.read_value() for each in variables])
        size = _size(values)
        return _flaw(values, size), size

    def _settle(
        self,
        strategy: tf.distribute.Strategy,
        is_bad: tf.Tensor,
        is_alarming: tf.Tensor,
        written: Sequence[tf.Tensor],
        trained: Sequence[tf.Tensor],
    ) -> tf.Tensor:
        local = strategy.experimental_local_results

        def restore(
            variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]
        ) -> tf.Tensor:
            assign_on_replicas(strategy, variables, values)
            return tf.constant(True)

        # Equal on all replicas, since they come from a sum over all.
        is_bad, is_alarming = local(is_bad)[0], local(is_alarming)[0]
        tf.cond(is_bad, lambda: restore(self._written, written), lambda: False)
        if not trained:
            return is_bad
        is_saved = is_bad & is_alarming
        return tf.cond(is_saved, lambda: restore(self._trained, trained), lambda: False)


def new_record() -> tf.Variable:
    """Returns the variable that the steps of a model record in, per replica."""
    return tf.Variable(
        empty_record(),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def empty_record() -> list[float]:
    """Returns the record of no steps; the size of the variables is not known yet."""
    return [0.0, float("inf"), *[0.0] * len(NAMES)]


def zeros_for_nonfinite(values: Any) -> Any:
    """Returns arrays with 0 in place of NaN and infinity.

    Some losses fail inside TensorFlow on labels that are not finite, before the step
    can be undone.

    Args:
        values: An array, a structure of arrays or `None`.
    """

    def replaced(each: Any) -> Any:
        if each is None or not tf.as_dtype(each.dtype).is_floating:
            return each
        return tf.where(tf.math.is_finite(each), each, tf.zeros_like(each))

    return tf.nest.map_structure(replaced, values)


def _floats(values: Any) -> list[tf.Tensor]:
    """Returns the floating-point tensors of a structure, at least in float32."""
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
    """Returns half the sum of squares, which tells in one pass if all is finite."""
    # The only kernel without a temporary: a quarter of the time of `abs` and a sum.
    sums = [tf.cast(tf.nn.l2_loss(each), tf.float32) for each in tensors]
    return tf.add_n(sums) if sums else tf.constant(0.0)


def _flaw(tensors: Sequence[tf.Tensor], size: tf.Tensor) -> tf.Tensor:
    """Returns 0 if all tensors are finite, else infinity or NaN."""

    def exact() -> tf.Tensor:
        # Finite numbers can have infinite squares.
        are = [tf.reduce_all(tf.math.is_finite(each)) for each in tensors]
        return tf.where(tf.reduce_all(are), 0.0, size)

    if not tensors:
        return tf.constant(0.0)
    return tf.cond(tf.math.is_finite(size), lambda: 0.0, exact)

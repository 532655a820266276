"""FiniteGuard: stops training that diverges, with the last finite weights kept."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid
from keras_advdef.training._finite_step import (
    DATA,
    NAMES,
    FiniteStep,
    empty_record,
    new_record,
)


class FiniteGuard(keras.callbacks.Callback):
    """Undoes every step that is not finite, and raises after it.

    The error leaves the function of the step, so that no other callback sees the
    batch. As a callback it only learns which epoch it is.

    Args:
        owner: Name of the class that trains.
    """

    def __init__(self, owner: str) -> None:
        super().__init__()
        self._owner = owner
        self._record = new_record()
        self._variables: Sequence[keras.Variable] = ()
        self._watched: Callable[[Any], Any] | None = None
        self._epoch: int | None = None

    def begin(
        self,
        batch: Mapping[str, Any],
        held: Sequence[keras.Variable],
        trained: Sequence[keras.Variable] = (),
    ) -> FiniteStep:
        """Returns a step that begins, in whatever graph it is traced; see `FiniteStep`.

        Args:
            batch: Images, labels and sample weights by name.
            held: Variables that the step may write.
            trained: Further ones, which only the optimizer writes.
        """
        self._variables = [*held, *trained]
        # A loop of the user's own calls no function that is watched.
        is_watched = self._watched is not None
        return FiniteStep(self._record, held, trained, batch, is_watched=is_watched)

    def begin_training(
        self,
        model: keras.Model,
        batch: Mapping[str, Any],
        variables: Sequence[keras.Variable],
    ) -> FiniteStep:
        """Returns a step of a model with one optimizer.

        Args:
            model: A built and compiled model.
            batch: Images, labels and sample weights by name.
            variables: Those of the model that a step may write.
        """
        trained = model.trainable_variables
        if not model.optimizer.built:
            with tf.init_scope():
                model.optimizer.build(trained)
        known = {id(each) for each in trained}
        others = [each for each in variables if id(each) not in known]
        trained = [*trained, *model.optimizer.variables]
        # XLA has no branches of several shapes, and replicas must take the same one.
        if model.jit_compile or model.distribute_strategy.num_replicas_in_sync > 1:
            return self.begin(batch, [*others, *trained])
        return self.begin(batch, others, trained)

    def watching(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Returns a function of training steps that raises if one was undone.

        Args:
            function: What Keras made of a training step.
        """
        if function is self._watched:
            return function

        def watched(iterator: Any) -> Any:
            logs = function(iterator)
            self._check()
            return logs

        self._watched = watched
        return watched

    def training(self, fit: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Returns what `fit` returns, with this as the first of its callbacks.

        Args:
            fit: `keras.Model.fit` of the model.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        given = inspect.signature(fit).bind(*args, **kwargs)
        callbacks = given.arguments.get("callbacks")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [self, *keras.tree.flatten(callbacks or [])]
        elif self not in callbacks.callbacks:
            callbacks.callbacks.insert(0, self)
        given.arguments["callbacks"] = callbacks
        return fit(*given.args, **given.kwargs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch, and counts batches from its first."""
        self._epoch = epoch
        self._record.assign(empty_record())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Notes that there are no more epochs."""
        self._epoch = None

    def _check(self) -> None:
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

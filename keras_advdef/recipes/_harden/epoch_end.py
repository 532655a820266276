"""What happens after each epoch: it is measured, and the best one is kept."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_advdef.core.progress import Progress, time_left
from keras_advdef.core.text import duration
from keras_advdef.recipes._harden.journal import Journal
from keras_advdef.recipes._harden.plan import Plan
from keras_advdef.recipes._harden.training_data import LabelledArrays

CHOSEN_BY, CERTIFIED_BY = "val_adversarial_accuracy", "val_certified_accuracy"
_SHOWN = ("loss", "val_accuracy", CHOSEN_BY, CERTIFIED_BY)


@dataclasses.dataclass
class Record:
    """How far a training is, and its best epoch.

    Attributes:
        history: The logs of each epoch by name.
        epochs: Epochs done.
        best_epoch: Index of the best epoch, -1 before there is one.
        best_value: Accuracy under attack after it, or certified accuracy.
        best: The classifier's weights after it.
        stopped: Why training ended early, or "".
        seconds: Seconds of training so far, those of stopped runs too.
    """

    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    best_epoch: int = -1
    best_value: float = -math.inf
    best: list[np.ndarray] = dataclasses.field(default_factory=list)
    stopped: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns all but the weights as JSON values."""
        names = ("history", "epochs", "best_epoch", "best_value", "stopped", "seconds")
        values = {name: getattr(self, name) for name in names}
        values["best_value"] = max(self.best_value, -1.0)
        return values


class EpochEnd(keras.callbacks.Callback):
    """Measures the averaged weights after each epoch, and keeps the best ones.

    Args:
        record: How far the training is.
        journal: Where that is kept.
        selection: Images that compare epochs.
        averaging: Puts the averaged weights into the model while it is measured, or
            `None`.
        plan: How many epochs there are.
        steps: Steps of an epoch.
        patience: Epochs without a better one after which training stops.
        progress: Receives a line for each epoch.
        batch_size: Images per compiled call.
        certified: Measures the share of certified images, which then compares epochs;
            `None` to compare by attacks.
    """

    def __init__(
        self,
        record: Record,
        journal: Journal,
        *,
        selection: LabelledArrays,
        averaging: keras.callbacks.Callback | None,
        plan: Plan,
        steps: int,
        patience: int,
        progress: Progress,
        batch_size: int,
        certified: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self._record, self._journal = record, journal
        self._selection, self._averaging = selection, averaging
        self._plan, self._steps, self._patience = plan, steps, patience
        self._progress, self._batch_size = progress, batch_size
        self._certified = certified
        self._chosen_by = CHOSEN_BY if certified is None else CERTIFIED_BY
        self._begun = self._ended = 0.0
        self._before, self._first = record.seconds, record.epochs

    def set_model(self, model: keras.Model) -> None:
        """Takes the model, also for the averaged weights."""
        super().set_model(model)
        if self._averaging is not None:
            self._averaging.set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Remembers when training began."""
        self._begun = time.monotonic()
        if self._averaging is not None:
            self._averaging.on_train_begin()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Says how far the training is."""
        epoch = self._record.epochs
        done = epoch - self._first + (batch + 1) / self._steps
        left = (self._plan.epochs - epoch) * self._steps - batch - 1
        self._progress.update(
            "training",
            left=max(0, left) * self._batch_size,
            seconds=self._left(done),
        )

    def _left(self, done: float) -> float:
        """Returns the seconds left after so many epochs of this run."""
        taken = (time.monotonic() - self._begun) / done
        return (self._plan.epochs - self._first - done) * taken

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures, compares, keeps, says."""
        logs = {} if logs is None else logs
        record = self._record
        measured, weights = self._measured()
        logs |= measured
        for name, value in logs.items():
            record.history.setdefault(name, []).append(float(value))
        record.epochs = epoch + 1
        if self.model.stop_training:
            record.stopped = "stopped by catastrophic overfitting"
        value = float(logs[self._chosen_by])
        # Where nothing is certified yet, the last epoch is the best.
        if value > record.best_value or (self._certified and value == 0.0):
            record.best_epoch, record.best_value = epoch, value
            record.best = weights
        is_late = (
            not record.stopped
            and epoch - record.best_epoch >= self._patience
            and epoch + 1 < self._plan.epochs
        )
        if is_late:
            record.stopped = (
                f"stopped early: no better epoch for {self._patience} epochs"
            )
            self.model.stop_training = True
        self._plan_anew(epoch + 1)
        self._journal.keep(
            {"plan": dataclasses.asdict(self._plan), "record": record.to_json()},
            self.model,
            record.best,
        )
        self._progress.line(self._line(epoch, logs))
        if is_late:
            self._progress.line(f"Training {record.stopped}.")

    def _plan_anew(self, done: int) -> None:
        """Counts the time, and changes the plan by the epochs without a trace."""
        record, plan, now = self._record, self._plan, time.monotonic()
        record.seconds = self._before + now - self._begun
        if done == self._first + 1:
            self._ended = now
        else:
            taken = (now - self._ended) / (done - self._first - 1)
            if plan.revise(done, seconds=taken, spent=record.seconds):
                text = f"Plan: {plan.epochs} epochs, as one takes {duration(taken)}."
                self._progress.line(text)
        if done >= plan.epochs:
            self.model.stop_training = True

    def _measured(self) -> tuple[dict[str, float], list[np.ndarray]]:
        if self._averaging is not None:
            self._averaging.on_test_begin()
        found = self.model.evaluate(
            self._selection.images.astype(np.float32),
            self._selection.labels,
            batch_size=self._batch_size,
            return_dict=True,
            verbose=0,
        )
        if self._certified is not None:
            found["certified_accuracy"] = self._certified()
        weights = self.model.classifier.get_weights()
        if self._averaging is not None:
            self._averaging.on_test_end()
        return {f"val_{name}": float(value) for name, value in found.items()}, weights

    def _line(self, epoch: int, logs: dict[str, Any]) -> str:
        words = {
            "loss": f"loss {logs.get('loss', math.nan):.3f}",
            "val_accuracy": f"clean {100 * logs.get('val_accuracy', math.nan):.1f} %",
            CHOSEN_BY: f"attacked {100 * logs[CHOSEN_BY]:.1f} %",
            CERTIFIED_BY: f"certified {100 * logs.get(CERTIFIED_BY, math.nan):.1f} %",
        }
        shown = ", ".join(words[name] for name in _SHOWN if name in logs)
        left = self._left(epoch + 1.0 - self._first)
        end = time_left(left) if self._plan.epochs > epoch + 1 else ""
        return f"epoch {epoch + 1} of {self._plan.epochs}: {shown}{end}"

"""CatastrophicOverfittingGuard: goes back when single-step training collapses."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.pgd import PGD
from keras_advdef.callbacks._attacked_accuracy import attacked_accuracy
from keras_advdef.core.errors import (
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
    wrong_type,
)
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.core.progress import Progress, progress_of
from keras_advdef.core.training_state import (
    assign_values,
    training_state,
    values_of,
)

_OWNER = "CatastrophicOverfittingGuard"
_FGSM, _PGD = "probe_fgsm_accuracy", "probe_pgd_accuracy"


class CatastrophicOverfittingGuard(keras.callbacks.Callback):
    """Goes back to the best epoch when single-step adversarial training collapses.

    A model trained on one-step attacks may learn to fool these alone: within an epoch
    its accuracy under PGD falls to nothing, while that under FGSM rises (Wong, Rice,
    Kolter, ICLR 2020, "Fast is better than free", whose remedy this is). So after every
    epoch both attacks run on the same few held-out images, and
    `probe_fgsm_accuracy` and `probe_pgd_accuracy` are added to the logs. Training has
    collapsed when the second has fallen by more than `drop` below its best, and by more
    than `drop` further than the first has.

    Then model and optimizer return to the state of the best epoch: weights, moving
    statistics, random states, the optimizer's slots, step count and learning rate. One
    printed sentence says so. The logs keep what the epoch measured.

    List it before callbacks that save or average weights, which then see the weights
    gone back to. The weights that `fit` starts from count as the first best, so
    that a run resumed by `keras.callbacks.BackupAndRestore`, which does not know the
    best of the run before, goes back no further than to where it resumed.

    Args:
        images: A few hundred images `(count, rows, cols, channels)` that the model does
            not train on, in `value_range`.
        labels: Their labels, integers or one-hot.
        epsilon: Number above 0. Radius of both attacks, the one trained with.
        value_range: Pair of the smallest and the largest pixel value.
        norm: "linf", "l2" or "l1".
        steps: Steps of PGD.
        drop: Number in `(0, 1]`. The fall of accuracy that counts as a collapse.
        then: "stop" ends training. "continue" goes on from the best epoch, after
            `on_collapse`, or else at half the learning rate, since the same training
            would soon collapse again.
        on_collapse: Function of the model, called after going back and before training
            goes on; it may lower epsilon, for example.
        batch_size: Images per compiled call.
        seed: Integer that fixes the attacks' draws, so that epochs can be compared.
        verbose: 0 for silence, 1 or "auto" for the sentence, or a
            `keras_advdef.core.progress.Progress` that gets it.

    Attributes:
        collapses: Numbers of the epochs, from 0, after which it went back.

    Raises:
        TypeError: If `on_collapse` is not a function.
        ValueError: If an argument is outside its bounds, or `fit` starts with a
            learning rate that cannot be halved.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> model = keras_advdef.training.AdversarialTrainingModel(
    ...     classifier, keras_advdef.attacks.NFGSM(0.1))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss)
    >>> x, y = np.full((4, 2, 2, 1), 0.5), np.zeros(4)
    >>> guard = keras_advdef.callbacks.CatastrophicOverfittingGuard(x, y, epsilon=0.1)
    >>> history = model.fit(x, y, callbacks=[guard], verbose=0).history
    >>> [name for name in sorted(history) if name.startswith("probe")]
    ['probe_fgsm_accuracy', 'probe_pgd_accuracy']
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        epsilon: float,
        value_range: tuple[float, float] = (0.0, 1.0),
        norm: str = "linf",
        steps: int = 10,
        drop: float = 0.2,
        then: str = "stop",
        on_collapse: Callable[[keras.Model], object] | None = None,
        batch_size: int = 128,
        seed: int = 0,
        verbose: str | int | Progress = "auto",
    ) -> None:
        super().__init__()
        checked_number(_OWNER, "epsilon", epsilon, low=0.0, low_open=True)
        steps = checked_integer(_OWNER, "steps", steps, low=1)
        shared: dict[str, Any] = {"norm": norm, "value_range": value_range}
        self._fgsm = FGSM(epsilon, **shared)
        self._pgd = PGD(epsilon, steps=steps, **shared)
        self.images = np.asarray(images)
        count = len(self.images) if self.images.ndim else 0
        if not count:
            raise invalid(_OWNER, "images", "at least one image", self.images)
        self._classes = checked_class_labels(_OWNER, labels, count=count, classes=None)
        self.drop = checked_number(
            _OWNER, "drop", drop, low=0.0, high=1.0, low_open=True
        )
        self.then = checked_choice(_OWNER, "then", then, ("stop", "continue"))
        if on_collapse is not None and not callable(on_collapse):
            rule = "a function of the model"
            raise wrong_type(_OWNER, "on_collapse", rule, on_collapse)
        self.on_collapse = on_collapse
        self.batch_size = checked_integer(_OWNER, "batch_size", batch_size, low=1)
        self.seed = checked_integer(_OWNER, "seed", seed, low=0)
        self._progress = progress_of(verbose)
        self.collapses: list[int] = []
        self._best: _Best | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets an earlier training; raises if the learning rate is scheduled."""
        self.collapses, self._best = [], None
        if self.then == "continue" and self.on_collapse is None:
            _learning_rate(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures the weights that training starts from."""
        # Not when training begins: a callback after this one may load a backup then.
        if self._best is None:
            self._keep(f"the start of epoch {epoch + 1}", *self._measure())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures the epoch, and keeps it or goes back to the best one."""
        fgsm, pgd = self._measure()
        if logs is not None:
            logs.update({_FGSM: fgsm, _PGD: pgd})
        best = self._best
        if best is None or pgd >= best.pgd:
            self._keep(f"the end of epoch {epoch + 1}", fgsm, pgd)
            return
        fall = best.pgd - pgd
        if fall > self.drop and fall - (best.fgsm - fgsm) > self.drop:
            self._go_back(epoch, best, (fgsm, pgd))

    def _measure(self) -> tuple[float, float]:
        """Returns the accuracy under FGSM and that under PGD."""
        fgsm, pgd = (
            attacked_accuracy(
                attack,
                self.model,
                (self.images, self._classes),
                batch_size=self.batch_size,
                seed=self.seed,
            )
            for attack in (self._fgsm, self._pgd)
        )
        return fgsm, pgd

    def _keep(self, when: str, fgsm: float, pgd: float) -> None:
        self._best = _Best(when, fgsm, pgd, values_of(training_state(self.model)))

    def _go_back(self, epoch: int, best: "_Best", found: tuple[float, float]) -> None:
        model = self.model
        assign_values(model, training_state(model), best.state)
        self.collapses.append(epoch)
        if self.on_collapse is not None:
            self.on_collapse(model)
        elif self.then == "continue":
            rate = _learning_rate(model)
            rate.assign(0.5 * float(rate))
        if self.then == "stop":
            model.stop_training = True
        # What was changed stays changed if training collapses again.
        self._keep(best.when, best.fgsm, best.pgd)
        self._progress.line(self._sentence(epoch, best, found))

    def _sentence(self, epoch: int, best: "_Best", found: tuple[float, float]) -> str:
        fgsm, pgd = found
        end = "training stops"
        if self.then == "continue":
            end = "training goes on"
            if self.on_collapse is None:
                end += f" at a learning rate of {float(_learning_rate(self.model)):g}"
        return (
            f"Catastrophic overfitting in epoch {epoch + 1}: accuracy under PGD went "
            f"from {best.pgd:.1%} to {pgd:.1%} and under FGSM from {best.fgsm:.1%} to "
            f"{fgsm:.1%}; the model is back at {best.when}, and {end}."
        )


class _Best(NamedTuple):
    """A state of the training: when it was, its accuracies, and its variables."""

    when: str
    fgsm: float
    pgd: float
    state: list[np.ndarray]


def _learning_rate(model: keras.Model) -> keras.Variable:
    """Returns the learning rate, or raises if it follows a schedule."""
    rate = model.optimizer.learning_rate
    if not isinstance(rate, keras.Variable):
        rule = "a number in the optimizer, which can be halved"
        advice = "Pass `on_collapse`, or `then='stop'`."
        raise invalid(_OWNER, "learning_rate", rule, "a schedule", advice=advice)
    return rate

"""Keeps the batches of an attack full: waiting images replace broken ones."""

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_advdef.attacks._job import Job, SubJob
from keras_advdef.attacks._success import needs_confirmation
from keras_advdef.core.image_layout import block_size, pad_rows
from keras_advdef.core.progress import meter
from keras_advdef.core.random_numbers import fold_in

if TYPE_CHECKING:
    from keras_advdef.attacks.stepped_attack import SteppedAttack


class _Slots:
    """A batch of attack states whose rows belong to different images."""

    def __init__(
        self, attack: "SteppedAttack", job: Job | SubJob, epsilon: tf.Tensor
    ) -> None:
        self.attack = attack
        self.job = job
        self.epsilon = epsilon
        self.owners = np.zeros(0, np.int64)
        self.state: dict[str, np.ndarray] = {}
        self.calls = 0

    def _next_key(self) -> tf.Tensor:
        self.calls += 1
        return fold_in(self.job.key, self.calls)

    def admit(self, admitted: list[tuple[int, int]]) -> None:
        """Adds images, each with the number of its run, with fresh starts."""
        rows, runs = np.array(admitted, np.int64).T
        size = block_size(len(rows), self.job.size)
        labels = tf.constant(pad_rows(self.job.labels[rows], size))
        run = tf.constant(pad_rows(runs, size), tf.int32)
        images, key = self.job.batch(rows, size), self._next_key()
        mask = self.job.masks(rows, size)
        fresh = self.job.compiled.start(images, labels, self.epsilon, key, run, mask)
        for name, value in fresh.items():
            added = value.numpy()[: len(rows)]
            known = self.state.get(name, added[:0])
            self.state[name] = np.concatenate([known, added])
        self.owners = np.concatenate([self.owners, rows])

    def advance(self) -> None:
        """Moves every row on, in the smallest block that holds them.

        Rows that have taken as many steps go together where that decides over how many
        draws they average.
        """
        taken = self.state["step"].astype(np.int64)
        together = taken if self.attack.draws_vary else np.zeros_like(taken)
        groups = [np.flatnonzero(together == each) for each in np.unique(together)]
        moved = [self._advanced(rows, int(taken[rows].min())) for rows in groups]
        order = np.argsort(np.concatenate(groups))
        self.state = {
            name: np.concatenate([each[name] for each in moved])[order]
            for name in self.state
        }

    def _advanced(self, rows: np.ndarray, taken: int) -> dict[str, np.ndarray]:
        """Moves some rows on and returns their state."""
        count = len(rows)
        block = block_size(count, self.job.size)
        packed = {
            name: tf.constant(pad_rows(value[rows], block))
            for name, value in self.state.items()
        }
        steps = min(self.attack.segment, self.attack.steps - taken)
        advance, key = self.job.compiled.advance, self._next_key()
        moved = advance(packed, self.epsilon, key, steps, taken)
        meter.rows += block * steps
        return {name: value.numpy()[:count] for name, value in moved.items()}

    def confirm(self) -> None:
        """Takes back successes that a second look does not confirm."""
        suspects = np.flatnonzero(self.state["broken"])
        if not suspects.size:
            return
        size = block_size(len(suspects), self.job.size)
        images, labels = (
            tf.constant(pad_rows(self.state[name][suspects], size))
            for name in ("best", "labels")
        )
        confirm = self.job.compiled.confirm
        held = confirm(images, labels, self._next_key()).numpy()[: len(suspects)]
        lost = suspects[~held]
        self.state["broken"][lost] = False
        self.state["best_loss"][lost] = np.finfo(np.float32).min

    def release(self, done: np.ndarray) -> list[tuple[int, np.ndarray, float, bool]]:
        """Removes finished rows and returns `(index, image, loss, broken)` of each."""
        state = self.state
        finished = [
            (
                int(self.owners[row]),
                *(state[k][row] for k in ("best", "best_loss")),
                bool(state["broken"][row]),
            )
            for row in np.flatnonzero(done)
        ]
        self.owners = self.owners[~done]
        self.state = {name: value[~done] for name, value in state.items()}
        return finished


def run_slots(attack: "SteppedAttack", job: Job | SubJob, epsilon: tf.Tensor) -> None:
    """Attacks each image until it breaks or has had all runs; the job keeps the best.

    Args:
        attack: The attack.
        job: The checked inputs.
        epsilon: Radius on the `[0, 1]` scale.
    """
    job.check()
    slots = _Slots(attack, job, epsilon)
    progress, finished = job.progress(job.count), 0
    runs = attack.runs(job.classes)
    waiting = deque((index, 0) for index in range(job.count))
    under_way: dict[int, int] = {}
    must_confirm = needs_confirmation(job.logits_fn)
    while waiting or len(slots.owners):
        free = min(job.size - len(slots.owners), len(waiting))
        if free:
            admitted = [waiting.popleft() for _ in range(free)]
            under_way.update(admitted)
            slots.admit(admitted)
        slots.advance()
        if must_confirm:
            slots.confirm()
        done = slots.state["broken"] | (slots.state["step"] >= attack.steps)
        for index, image, loss, broken in slots.release(done):
            job.keep(index, image, loss, broken)
            run = under_way.pop(index) + 1
            if run < runs and not broken:
                waiting.append((index, run))
            else:
                finished += 1
        progress.update(finished)

"""Keeps a compiled attack full: broken images leave, waiting ones take their places."""

from collections import deque
from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.attacks.generation import padded
from keras_advdef.core.random_numbers import fold_in

# The last images run in blocks of the full size and of three halvings, so a model is
# traced four times at most.
_BLOCK_SIZES = 4


class _Table:
    """The best image found so far for each input, filled as slots finish."""

    def __init__(self, result: np.ndarray) -> None:
        self.result = result
        self.loss = np.full(len(result), -np.inf, np.float32)

    def keep(self, index: int, image: np.ndarray, loss: float, broken: bool) -> None:
        if broken or loss > self.loss[index]:
            self.result[index] = image
            self.loss[index] = loss


class _Slots:
    """A batch of attack states whose rows belong to different images."""

    def __init__(self, attack: Any, job: Any, epsilon: tf.Tensor) -> None:
        self.attack = attack
        self.job = job
        self.epsilon = epsilon
        self.owners = np.zeros(0, np.int64)
        self.state: dict[str, np.ndarray] = {}
        self.calls = 0

    def _next_key(self) -> tf.Tensor:
        self.calls += 1
        return fold_in(self.job.key, self.calls)

    def admit(self, indices: list[int]) -> None:
        """Adds images with fresh starts."""
        rows = np.array(indices, np.int64)
        labels = tf.constant(padded(self.job.labels[rows], self.job.size))
        start = self.job.compiled.start
        fresh = start(self.job.batch(rows), labels, self.epsilon, self._next_key())
        for name, value in fresh.items():
            added = value.numpy()[: len(rows)]
            known = self.state.get(name, added[:0])
            self.state[name] = np.concatenate([known, added])
        self.owners = np.concatenate([self.owners, rows])

    def advance(self) -> None:
        """Moves every row on, in the smallest block that holds them."""
        count, size = len(self.owners), self.job.size
        halvings = [size >> shift for shift in range(_BLOCK_SIZES)]
        block = min(each for each in halvings if each >= count)
        packed = {k: tf.constant(padded(v, block)) for k, v in self.state.items()}
        advance = self.job.compiled.advance
        moved = advance(packed, self.epsilon, self._next_key())
        self.state = {name: value.numpy()[:count] for name, value in moved.items()}

    def release(self, done: np.ndarray) -> list[tuple[int, Any, float, bool]]:
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


def run_slots(
    attack: Any, job: Any, epsilon: tf.Tensor, result: np.ndarray, progress: Any
) -> None:
    """Attacks every image until it is broken or out of restarts.

    Args:
        attack: An attack with `start`, `advance`, `steps` and `restarts`.
        job: The checked inputs.
        epsilon: Radius on the `[0, 1]` scale.
        result: Array that receives the images, in the job's range.
        progress: A `keras.utils.Progbar` that counts finished images.
    """
    table, slots = _Table(result), _Slots(attack, job, epsilon)
    waiting = deque((index, attack.restarts) for index in range(job.count))
    left: dict[int, int] = {}
    finished = 0
    while waiting or len(slots.owners):
        free = min(job.size - len(slots.owners), len(waiting))
        if free:
            admitted = [waiting.popleft() for _ in range(free)]
            left.update(admitted)
            slots.admit([index for index, _ in admitted])
        slots.advance()
        done = slots.state["broken"] | (slots.state["step"] >= attack.steps)
        for index, image, loss, broken in slots.release(done):
            table.keep(index, job.range.from_unit(image), loss, broken)
            remaining = left.pop(index) - 1
            if remaining and not broken:
                waiting.append((index, remaining))
            else:
                finished += 1
        progress.update(finished)

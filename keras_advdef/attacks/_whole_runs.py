"""Runs a stepped attack batch by batch, each image to the end of all runs."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_advdef.attacks._job import Job
from keras_advdef.attacks._success import needs_confirmation, stronger
from keras_advdef.core import streams
from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.norms import per_image
from keras_advdef.core.random_numbers import fold_in

if TYPE_CHECKING:
    from keras_advdef.attacks.stepped_attack import State, SteppedAttack


class _Batch:
    """A batch of images, and the compiled functions that attack it.

    Args:
        attack: The attack.
        job: The checked inputs.
        rows: Which images.
        key: Key for the draws.
    """

    def __init__(
        self, attack: "SteppedAttack", job: Job, rows: slice, key: tf.Tensor
    ) -> None:
        # A `FAB` where its nearest points are looked for.
        self.attack: Any = attack
        # Its own, as it remembers the first look.
        self.compiled = copy.copy(job.compiled)
        self.key = key
        self.runs = attack.runs(job.classes)
        self.logits_fn = job.logits_fn
        self.images = job.batch(rows)
        self.labels = tf.constant(pad_rows(job.labels[rows], job.size))
        self.mask = job.masks(rows)

    def start(
        self, run: int, epsilon: tf.Tensor, key: tf.Tensor, name: str = "start"
    ) -> "State":
        number = tf.fill([len(self.images)], run)
        rows = self.images, self.labels, epsilon
        return self.compiled.start(*rows, key, number, self.mask, name=name)

    def pixels(self, found: tf.Tensor, epsilon: tf.Tensor) -> np.ndarray:
        return self.compiled.pixels(found, self.images, epsilon).numpy()


def run_strongest(attack: "SteppedAttack", job: Job, epsilon: tf.Tensor) -> None:
    """Gives each image its strongest point; what `SteppedAttack.perturb` does.

    Args:
        attack: The attack.
        job: The checked inputs.
        epsilon: Radius on the `[0, 1]` scale.
    """
    _run(attack, job, epsilon, _strongest)


def run_nearest(attack: "SteppedAttack", job: Job, epsilon: tf.Tensor) -> None:
    """Gives each image its nearest adversarial point; what `FAB.perturb` does.

    Args:
        attack: A `FAB`.
        job: The checked inputs.
        epsilon: Largest norm that counts, on the `[0, 1]` scale.
    """
    _run(attack, job, epsilon, _nearest)


def _run(
    attack: "SteppedAttack",
    job: Job,
    epsilon: tf.Tensor,
    find: Callable[[_Batch, tf.Tensor], tf.Tensor],
) -> None:
    def craft(rows: slice, key: tf.Tensor) -> np.ndarray:
        batch = _Batch(attack, job, rows, key)
        pixels = batch.pixels(find(batch, epsilon), epsilon)
        # Without one more pass where the attack itself starts at the clean images.
        first = batch.compiled.first_look if attack.starts_clean else None
        job.check_batch(rows, first)
        return pixels

    job.fill_batches(craft)


def _strongest(batch: _Batch, epsilon: tf.Tensor) -> tf.Tensor:
    attack, compiled = batch.attack, batch.compiled
    if attack.returns_last:
        state = batch.start(0, epsilon, batch.key)
        return compiled.repeat(state, epsilon, batch.key, attack.steps)["iterate"]

    def once(run: int) -> tuple[tf.Tensor, ...]:
        key = fold_in(batch.key, run)
        state = batch.start(run, epsilon, key)
        state = compiled.advance(state, epsilon, key, attack.steps)
        broken = state["broken"]
        if needs_confirmation(batch.logits_fn):
            broken = compiled.confirm(state["best"], state["labels"], key)
        return state["best"], state["best_loss"], broken

    strongest = once(0)
    for run in range(1, batch.runs):
        strongest = stronger(once(run), strongest)
    return strongest[0]


def _nearest(batch: _Batch, epsilon: tf.Tensor) -> tf.Tensor:
    attack, compiled, labels = batch.attack, batch.compiled, batch.labels
    images = attack.value_range.to_unit(batch.images)
    key = fold_in(batch.key, streams.CLEAN_SUCCESS)
    before = compiled.confirm(images, labels, key)
    best, loss = images, tf.fill(tf.shape(labels), tf.float32.min)
    for run in range(batch.runs):
        key = fold_in(batch.key, run)
        radius = tf.minimum(epsilon, -loss)
        state = batch.start(run, radius, key, "begin")
        state = compiled.repeat(state, radius, key, attack.steps)
        found = state["best_loss"]
        if batch.logits_fn.is_random:
            # The nearest of many points is one that was lucky for once.
            held = compiled.confirm(state["best"], labels, key)
            found = tf.where(held, found, tf.float32.min)
        nearer = found > loss
        best = tf.where(per_image(nearer, images), state["best"], best)
        loss = tf.where(nearer, found, loss)
    best = tf.where(per_image(before, images), images, best)
    success = before | compiled.confirm(best, labels, batch.key)
    return attack.within(images, best, success, epsilon).images

"""Runner: runs the stages of an evaluation and keeps each image's worst case."""

import copy
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.norms import norm_per_image
from keras_advdef.core.predictions import check_finite_logits
from keras_advdef.core.progress import Progress, meter
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import OWNER, Request
from keras_advdef.evaluation._run.forecast import Forecast, SoFar, Work, stage_work
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Arrays, Ledger

# Evaluations of each attacked image of a random model on fresh draws.
DRAWS = 10
# Float32 rounding of the images must not cost a success at exactly epsilon.
_SLACK = 1.0 + 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CleanImages:
    """What a model makes of the clean images, from which everything starts.

    Attributes:
        logits: Of the first draw, `(count, classes)`.
        wrong: In how many draws each image is wrong.
        draws: How many draws there were.
    """

    logits: np.ndarray
    wrong: np.ndarray
    draws: int


def measure_clean(
    request: Request,
    labels: np.ndarray,
    judge: Judge,
    *,
    ledger: Ledger,
    is_random: bool,
) -> CleanImages:
    """Evaluates the clean images.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        judge: Runs the model.
        ledger: Keeps the result.
        is_random: Whether images are evaluated on several draws.

    Raises:
        ValueError: If the model gives NaN or infinity for an image.
    """
    draws = DRAWS if is_random else 1

    def measure() -> Arrays:
        each = [
            judge.logits(request.images, derived_seed(request.seed, "clean", draw))
            for draw in range(draws)
        ]
        for logits in each:
            is_finite = np.isfinite(logits).all(axis=1)
            check_finite_logits(OWNER, "model", request.evaluated.model, is_finite)
        wrong = sum(logits.argmax(axis=-1) != labels for logits in each)
        return {"wrong": np.asarray(wrong, np.int64), "logits": each[0]}

    return CleanImages(draws=draws, **ledger.part("clean", measure, "the clean images"))


class Runner:
    """Attacks block by block, through the ledger, and merges what the attacks found.

    An attack counts as it is measured here: on the model itself, inside the ball, and
    for a random model by how many of `DRAWS` fresh draws it fools.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        judge: Says what the model gets wrong.
        clean: What it makes of the clean images.
        ledger: Keeps finished blocks.
        progress: Who is told.
        forecast: Tells the time that is left.
        expected_work: Says what all stages are expected to cost, as far as is known.
    """

    def __init__(
        self,
        request: Request,
        labels: np.ndarray,
        judge: Judge,
        *,
        clean: CleanImages,
        ledger: Ledger,
        progress: Progress,
        forecast: Forecast,
        expected_work: Callable[[SoFar], Mapping[str, Work]],
    ) -> None:
        self._request = request
        self._labels = labels
        self._ledger = ledger
        self._progress = progress
        self._expected_work = expected_work
        self.clean = clean
        self.judge = judge
        self.forecast = forecast
        self.draws = clean.draws
        # In how many draws each image is wrong, at the worst so far.
        self.wrong = clean.wrong.copy()
        # The images that do it; without randomness nobody asks for them.
        is_random = clean.draws > 1
        self.worst = request.images.astype(np.float32) if is_random else None
        self.seconds: dict[str, float] = {}
        # The latest block that was not found in the ledger.
        self._computed = ""

    @property
    def unbroken(self) -> np.ndarray:
        """Indices of the images that are still right in some draw."""
        return np.flatnonzero(self.wrong < self.draws)

    def run(self, stage: Stage, rows: np.ndarray) -> Arrays:
        """Attacks some images; returns `wrong` and `predicted`, one for each row.

        Args:
            stage: The attack.
            rows: Indices of the images.
        """
        started = time.perf_counter()
        found: dict[str, list[np.ndarray]] = {"wrong": [], "predicted": []}
        blocks = self._blocks(stage, rows)
        left = len(rows)
        right = self.clean.wrong < self.draws
        so_far = SoFar(right, len(self.unbroken), self.seconds.keys())
        self.forecast.expect(self._expected_work(so_far))
        for index, block in enumerate(blocks):
            seconds = self.forecast.seconds
            self._progress.update(stage.label, left=left, seconds=seconds)
            name = f"{stage.key}-{index:04d}"
            attack = functools.partial(
                self._timed, stage, block, name=name, size=len(blocks[0])
            )
            what = f"{stage.label}, {left} images left"
            part = self._ledger.part(name, attack, what)
            if self._computed != name:
                self.forecast.skip(stage.key, self._whole(stage, len(block)))
            if stage.role != "curve":
                self._merge(block, part)
            for key, values in found.items():
                values.append(part[key])
            left -= len(block)
        self.forecast.end(stage.key)
        self.seconds[stage.key] = time.perf_counter() - started
        empty = np.zeros(0, np.int64)
        return {key: np.concatenate([empty, *values]) for key, values in found.items()}

    def _blocks(self, stage: Stage, rows: np.ndarray) -> list[np.ndarray]:
        """Blocks of nearly equal size, so that all have one shape with little filling.

        Attacks whose broken images leave get two batches at once, to stay full.
        """
        most = self._request.size * (2 if stage.lets_leave else 1)
        return np.array_split(rows, -(-len(rows) // most)) if len(rows) else []

    def _timed(
        self, stage: Stage, block: np.ndarray, *, name: str, size: int
    ) -> Arrays:
        began, tracing, rows = time.perf_counter(), meter.tracing, meter.rows
        arrays = self._attack(stage, block, name=name, size=size)
        passes = self._whole(stage, size)
        if stage.lets_leave:
            passes *= (meter.rows - rows) / (size * stage.moves(self._classes))
        self.forecast.spend(
            stage.key,
            seconds=time.perf_counter() - began,
            tracing=meter.tracing - tracing,
            passes=passes,
        )
        self._computed = name
        return arrays

    def _whole(self, stage: Stage, images: int) -> float:
        """Passes of a stage if no image left it early."""
        whole = stage_work(stage, images, self._classes, broken=0.0, judged=self.draws)
        return whole.passes

    @property
    def _classes(self) -> int:
        return self.clean.logits.shape[1]

    def _attack(
        self, stage: Stage, block: np.ndarray, *, name: str, size: int
    ) -> Arrays:
        rows = pad_rows(block, size)
        images, labels = self._request.images[rows], self._labels[rows]
        seed = derived_seed(self._request.seed, name)
        epsilon = self._request.epsilon if stage.epsilon is None else stage.epsilon
        adversarial = stage.attack.generate(
            stage.view,
            images,
            None if stage.target_rank else labels,
            target_labels=self._targets(rows, stage.target_rank),
            epsilon=epsilon,
            seed=seed,
            batch_size=min(self._request.size, size),
            verbose=0,
            stop_early=stage.lets_leave,
        )
        adversarial = self._inside(adversarial, images, epsilon)[: len(block)]
        wrong, predicted = self.judge.evaluate(
            adversarial, self._labels[block], draws=self.draws, seed=seed
        )
        arrays = {"wrong": wrong, "predicted": predicted}
        return arrays if self.worst is None else {**arrays, "images": adversarial}

    def _targets(self, rows: np.ndarray, rank: int) -> np.ndarray | None:
        if not rank:
            return None
        logits = self.clean.logits[rows].copy()
        logits[np.arange(len(rows)), self._labels[rows]] = -np.inf
        if self.judge.rejected is not None:
            logits[:, self.judge.rejected] = -np.inf
        return np.argsort(-logits, axis=-1, kind="stable")[:, rank - 1]

    def _inside(
        self, adversarial: np.ndarray, images: np.ndarray, epsilon: float
    ) -> np.ndarray:
        """Puts the clean image where an attack left the ball or the range."""
        clean, pixels = images.astype(np.float32), self._request.value_range
        norms = norm_per_image(tf.constant(adversarial - clean), self._request.norm)
        slack = (_SLACK - 1.0) * pixels.span
        fits = norms.numpy() <= epsilon * _SLACK + slack
        flat = adversarial.reshape(len(adversarial), -1)
        fits &= flat.min(axis=1) >= pixels.low - slack
        fits &= flat.max(axis=1) <= pixels.high + slack
        return np.where(fits[:, None, None, None], adversarial, clean)

    def _merge(self, block: np.ndarray, part: Arrays) -> None:
        worse = part["wrong"] > self.wrong[block]
        self.wrong[block[worse]] = part["wrong"][worse]
        if self.worst is not None:
            self.worst[block[worse]] = part["images"][worse]

    def evaluate_worst(self, name: str) -> np.ndarray:
        """Returns, for each fresh draw, which of the worst images so far are wrong.

        What chose them says too much: the luck of its draws is in it.

        Args:
            name: Of this look in the ledger; the draws are the same in all.

        Returns:
            Boolean array `(draws, count)`; one row without randomness.
        """
        if self.worst is None:
            return (self.wrong > 0)[None]
        settled = functools.partial(self._evaluated_worst, self.worst)
        what = "the worst images on fresh draws"
        return self._ledger.part(f"settled-{name}", settled, what)["wrong"]

    def _evaluated_worst(self, worst: np.ndarray) -> Arrays:
        rows: list[np.ndarray] = []
        for draw in range(self.draws):
            seed = derived_seed(self._request.seed, "settle", draw)
            logits = self.judge.logits(worst, seed)
            rows.append(self.judge.fooled(logits, self._labels))
        return {"wrong": np.stack(rows)}

    def rejecting(self, label: int, rows: np.ndarray) -> "Runner":
        """Returns a runner by which images of a class have not fooled the model.

        It goes on where this one is, which is not to be used any more.

        Args:
            label: The class that stands for "adversarial".
            rows: Indices of images that have gone there when attacked, and were right
                when clean: what was counted as wrong on them is taken back.
        """
        other = copy.copy(self)
        other.judge = self.judge.rejecting(label)
        other.wrong = self.wrong.copy()
        other.wrong[rows] = self.clean.wrong[rows]
        return other

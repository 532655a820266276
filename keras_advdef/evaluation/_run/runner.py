"""Runner: runs the stages of an evaluation and keeps each image's worst case."""

import copy
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.norms import norm_per_image
from keras_advdef.core.predictions import check_finite_logits
from keras_advdef.core.progress import Progress, meter
from keras_advdef.evaluation._plan.differing_rows import (
    differing_rows,
    rounding_share,
)
from keras_advdef.evaluation._plan.eight_bit import is_eight_bit, to_eight_bit
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import OWNER, Request
from keras_advdef.evaluation._run.forecast import Forecast, SoFar, Work, stage_work
from keras_advdef.evaluation._run.image_records import ImageRecords
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Arrays, Ledger

# Roles of stages that tell nothing of single images.
_UNLISTED = ("curve", "trial")
# Rounding to float32 must not turn a success at exactly epsilon into a failure.
_SLACK = 1.0 + 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CleanImages:
    """The predictions for the clean images.

    Attributes:
        logits: Logits of the first draw, `(count, classes)`.
        wrong: Number of draws in which each image is misclassified.
        draws: Number of draws.
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
        ledger: Stores the result.
        is_random: Whether to evaluate on several draws.

    Raises:
        ValueError: If the model gives NaN or infinity for an image.
    """
    draws = request.judgements if is_random else 1

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

    # A model may turn out to be random only after they were evaluated once.
    name = "clean-drawn" if is_random else "clean"
    return CleanImages(draws=draws, **ledger.part(name, measure, "the clean images"))


class Runner:
    """Attacks block by block, stores each block, and merges the results of all attacks.

    The success of an attack is measured here: on the model itself, inside the ball,
    and for a random model by the number of fresh draws, of `DRAWS`, that are fooled.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        judge: Decides which images the model misclassifies.
        clean: The predictions for the clean images.
        ledger: Stores finished blocks.
        progress: Receives the progress.
        forecast: Forecasts the remaining time.
        expected_work: Estimates the work of all stages from what is known so far.
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
        # Number of draws in which each image is misclassified, at the worst so far.
        self.wrong = clean.wrong.copy()
        # The images that achieve this.
        self.worst = request.images.astype(np.float32)
        # For which images, attacked, the model gave NaN or infinity.
        self.undecided = np.zeros(len(labels), bool)
        self.seconds: dict[str, float] = {}
        self.records = ImageRecords(labels, clean.draws)

    @property
    def unbroken(self) -> np.ndarray:
        """Indices of the images that are still classified correctly in some draw."""
        return np.flatnonzero(self.wrong < self.draws)

    def run(self, stage: Stage, rows: np.ndarray) -> Arrays:
        """Attacks images; returns `wrong` and `predicted`, one for each row.

        Args:
            stage: The attack.
            rows: Indices of the images.
        """
        started = time.perf_counter()
        found: dict[str, list[np.ndarray]] = {"wrong": [], "predicted": []}
        blocks = self._blocks(stage, rows)
        left, size = len(rows), len(blocks[0]) if blocks else 0
        right = self.clean.wrong < self.draws
        so_far = SoFar(right, len(self.unbroken), self.seconds.keys())
        self.forecast.expect(self._expected_work(so_far))
        for places in self._ledger.groups(len(blocks)):
            seconds = self.forecast.seconds
            self._progress.update(stage.label, left=left, seconds=seconds)
            chosen = {f"{stage.key}-{place:04d}": blocks[place] for place in places}
            what = f"{stage.label}, {left} images left"
            parts = self._attacked(stage, chosen, size=size, what=what)
            for block, part in zip(chosen.values(), parts, strict=True):
                self.undecided[block] |= part["undecided"]
                self._merge(block, part)
                if stage.role not in _UNLISTED:
                    self.records.note(stage.key, block, part)
                for key, values in found.items():
                    values.append(part[key])
                left -= len(block)
        self.forecast.end(stage.key)
        self.seconds[stage.key] = time.perf_counter() - started
        empty = np.zeros(0, np.int64)
        return {key: np.concatenate([empty, *values]) for key, values in found.items()}

    def _blocks(self, stage: Stage, rows: np.ndarray) -> list[np.ndarray]:
        """Splits rows into blocks of nearly equal size, which need little padding.

        An attack that stops early on broken images gets two batches per block, so that
        its batches stay full.
        """
        most = self._request.size * (2 if stage.lets_leave else 1)
        return np.array_split(rows, -(-len(rows) // most)) if len(rows) else []

    def _attacked(
        self,
        stage: Stage,
        blocks: Mapping[str, np.ndarray],
        *,
        size: int,
        what: str,
    ) -> list[Arrays]:
        """Attacks some blocks at once, or reads what was found for them before."""

        def attack(name: str, block: np.ndarray) -> Arrays:
            before = meter.rows
            found = self._attack(stage, block, name=name, size=size)
            return {**found, "moved": np.array(meter.rows - before)}

        began, tracing = time.perf_counter(), meter.tracing
        parts = self._ledger.parts(blocks, attack, what)
        passes = 0.0
        for block, (arrays, is_new) in zip(blocks.values(), parts, strict=True):
            whole = self._whole(stage, size if is_new else len(block))
            if not is_new:
                self.forecast.skip(stage.key, whole)
            elif stage.lets_leave:
                moves = size * stage.moves(self._classes)
                passes += whole * int(arrays["moved"]) / moves
            else:
                passes += whole
        if any(each.is_new for each in parts):
            self.forecast.spend(
                stage.key,
                seconds=time.perf_counter() - began,
                tracing=meter.tracing - tracing,
                passes=passes,
            )
        return [each.arrays for each in parts]

    def _whole(self, stage: Stage, images: int) -> float:
        """Passes of a stage that stops early on no image."""
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
            batch_size=1 if stage.alone else min(self._request.size, size),
            verbose=0,
            stop_early=stage.lets_leave,
        )
        adversarial = self._inside(adversarial, images, epsilon)[: len(block)]
        judge = self.judge.alone() if stage.alone else self.judge
        evaluate = functools.partial(
            judge.evaluate, labels=self._labels[block], draws=self.draws, seed=seed
        )
        judged = evaluate(adversarial)
        if judged.undecided.any() and is_eight_bit(
            self._request.images, self._request.value_range
        ):
            # A model that refuses what no camera gives is asked about 8-bit images.
            adversarial = np.where(
                judged.undecided[:, None, None, None],
                to_eight_bit(
                    adversarial,
                    images[: len(block)],
                    epsilon=epsilon,
                    norm=self._request.norm,
                    pixels=self._request.value_range,
                ),
                adversarial,
            )
            judged = evaluate(adversarial)._replace(undecided=judged.undecided)
        worse = judged.wrong > self.wrong[block]
        # What lies in a smaller ball counts, too.
        worse &= epsilon <= self._request.epsilon and stage.role != "trial"
        arrays = {**judged._asdict(), "worse": worse}
        shown = self.records.shown(arrays, block)
        arrays["shown"] = adversarial[shown : shown + 1]
        return {**arrays, "images": adversarial[worse]}

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
        """Replaces images outside the ball or the range by the clean ones."""
        clean, pixels = images.astype(np.float32), self._request.value_range
        norms = norm_per_image(tf.constant(adversarial - clean), self._request.norm)
        slack = (_SLACK - 1.0) * pixels.span
        fits = norms.numpy() <= epsilon * _SLACK + slack
        flat = adversarial.reshape(len(adversarial), -1)
        fits &= flat.min(axis=1) >= pixels.low - slack
        fits &= flat.max(axis=1) <= pixels.high + slack
        return np.where(fits[:, None, None, None], adversarial, clean)

    def _merge(self, block: np.ndarray, part: Arrays) -> None:
        worse = part["worse"]
        self.wrong[block[worse]] = part["wrong"][worse]
        self.worst[block[worse]] = part["images"]

    def take(self, rows: np.ndarray, images: np.ndarray, name: str) -> None:
        """Judges images that were found otherwise; those that are worse count.

        Args:
            rows: Indices of the clean images.
            images: The attacked images.
            name: Name of the result in the ledger.
        """
        clean, seed = self._request.images[rows], derived_seed(self._request.seed, name)

        def judge() -> Arrays:
            inside = self._inside(images, clean, self._request.epsilon)
            wrong = self.judge.wrong(
                inside, self._labels[rows], draws=self.draws, seed=seed
            )
            worse = wrong > self.wrong[rows]
            return {"wrong": wrong, "worse": worse, "images": inside[worse]}

        if len(rows):
            self._merge(rows, self._ledger.part(name, judge, "images found otherwise"))

    def evaluate_worst(self, name: str) -> np.ndarray:
        """Returns which of the worst images so far are misclassified, on fresh draws.

        The draws that selected these images would overstate the success. A model that
        seemed to be deterministic is asked again as often about the images that fool
        it: its answers may be random away from the clean images.

        Args:
            name: Name of the result in the ledger; it does not affect the draws.

        Returns:
            Boolean array `(draws, count)`; one row without randomness.
        """
        what = "the worst images on fresh draws"
        return self._ledger.part(f"settled-{name}", self._settled, what)["wrong"]

    def _settled(self) -> Arrays:
        if self.draws == 1 and not self._differs(self.worst[self.wrong > 0]):
            return {"wrong": (self.wrong > 0)[None]}
        drawn = self._drawn(self.worst)
        return {"wrong": np.stack([self.judge.fooled(e, self._labels) for e in drawn])}

    def _differs(self, images: np.ndarray) -> bool:
        """Whether the answers to images differ from draw to draw."""
        if not len(images):
            return False
        first, *others = self._drawn(images)
        share = rounding_share(self._request.evaluated.model)
        return any(differing_rows(first, each, share).any() for each in others)

    def _drawn(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the logits of images on fresh draws."""
        for draw in range(self._request.judgements):
            seed = derived_seed(self._request.seed, "settle", draw)
            yield self.judge.logits(images, seed)

    def redrawn(
        self, clean: CleanImages, expected_work: Callable[[SoFar], Mapping[str, Work]]
    ) -> "Runner":
        """Returns a runner that takes the model for random after all.

        It continues where this runner is; use only the new one from then on.

        Args:
            clean: The predictions for the clean images on several draws.
            expected_work: Estimates the work of all stages.
        """
        seed = derived_seed(self._request.seed, "redrawn")

        def judge() -> Arrays:
            return {
                "wrong": self.judge.wrong(
                    self.worst, self._labels, draws=clean.draws, seed=seed
                )
            }

        what = "the worst images on several draws"
        wrong = self._ledger.part("redrawn", judge, what)["wrong"]
        other = copy.copy(self)
        other.clean, other.draws = clean, clean.draws
        other._expected_work = expected_work
        worse = wrong > clean.wrong
        other.wrong = np.where(worse, wrong, clean.wrong)
        other.worst = self.worst.copy()
        other.worst[~worse] = self._request.images[~worse]
        other.records = self.records.redrawn(other.wrong, other.draws)
        return other

    def rejecting(self, label: int, rows: np.ndarray) -> "Runner":
        """Returns a runner that takes a class for a detection.

        It continues where this runner is; use only the new one from then on.

        Args:
            label: The class that stands for "adversarial".
            rows: Indices of images that an attack moved to this class. They no longer
                count as broken.
        """
        other = copy.copy(self)
        other.judge = self.judge.rejecting(label)
        other.wrong, other.worst = self.wrong.copy(), self.worst.copy()
        other.wrong[rows] = self.clean.wrong[rows]
        other.worst[rows] = self._request.images[rows]
        other.records = self.records.rejecting(label, rows)
        return other

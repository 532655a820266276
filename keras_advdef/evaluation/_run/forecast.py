"""Forecast: how long an evaluation will still take."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.square import Square
from keras_advdef.core.image_layout import block_size
from keras_advdef.evaluation._plan.stage import Stage

# Before this share of the time is over, too little is known to tell the rest.
_FIRST = 0.1
# What TensorFlow optimizes at the first call of a function takes at most so many times
# as long as tracing it.
_OPTIMIZING = 1.5
# A forward pass takes a third of one that also goes back.
FORWARD = 1.0 / 3.0
# Steps after which most images are broken that will be; of queries a share.
_STEPS_TO_BREAK = 5
_QUERIES_TO_BREAK = 0.4
# An attack of one step is compiled in so much of the time of others.
_LOOPLESS = 0.6
# One that images leave has more functions.
_LEAVING = 1.2


class Work(NamedTuple):
    """What lies ahead of one stage.

    Attributes:
        passes: Forward and backward passes of single images.
        compiles: How much it compiles, in attacks whose images all stay to the end.
        seconds: What it takes beside, whatever the model.
    """

    passes: float
    compiles: float = 1.0
    seconds: float = 0.0


class SoFar(NamedTuple):
    """What an evaluation knows before a stage.

    Attributes:
        right: Which clean images the model has right in some draw, booleans.
        unbroken: How many images it still has right in some draw.
        ended: Keys of the stages that have ended.
    """

    right: np.ndarray
    unbroken: int
    ended: Collection[str]


def stage_work(
    stage: Stage,
    images: float,
    classes: int,
    *,
    broken: float,
    judged: int,
    slots: int = 0,
) -> Work:
    """Returns what a stage is expected to cost.

    Args:
        stage: The stage.
        images: How many it gets.
        classes: Number of logits.
        broken: Which share of them it is expected to break.
        judged: Draws on which the model looks at each attacked image.
        slots: Images that are moved at once; 0 where that need not be known.
    """
    passes = float(stage.passes(classes))
    is_blind = isinstance(stage.attack, (Square, HopSkipJump))
    is_blind = is_blind or stage.view.has_gradient is False
    if stage.lets_leave:
        early = min(1.0, _STEPS_TO_BREAK / passes)
        share = 1.0 - broken + broken * (_QUERIES_TO_BREAK if is_blind else early)
        passes *= max(share, _filled(images, broken, slots))
    passes *= FORWARD if is_blind else 1.0
    compiles = 1.0
    if isinstance(stage.attack, FGSM):
        compiles = _LOOPLESS
    elif stage.lets_leave:
        # For the smaller blocks of those that are left.
        compiles = _LEAVING + broken
    return Work((passes + judged * FORWARD) * images, compiles)


def _filled(images: float, broken: float, slots: int) -> float:
    """Which share of all passes those cost that go to the end, and what fills up."""
    blocks = math.ceil(images / (2 * slots)) if slots else 0
    if not blocks:
        return 0.0
    standing = math.ceil(images * (1.0 - broken) / blocks)
    return min(1.0, blocks * block_size(min(standing, slots), slots) / images)


class Forecast:
    """Tells the time that is left, from passes that were counted and what they took.

    Tracing and optimizing functions take their time once in each stage, whatever the
    number of images; it is kept apart from the time of the passes.

    Args:
        rate: Seconds that a pass of one image took at a first try.
        tried: Images of that try.

    Example:

    >>> from keras_advdef.evaluation._run.forecast import Forecast, Work
    >>> forecast = Forecast(0.01, 100)
    >>> forecast.expect({"a": Work(1000), "b": Work(1000)})
    >>> forecast.spend("a", seconds=12.0, tracing=2.0, passes=1000)
    >>> forecast.end("a")
    >>> forecast.seconds
    12.0
    """

    def __init__(self, rate: float = 0.0, tried: int = 0) -> None:
        self._pass_seconds = rate * tried
        self._passes = float(tried)
        self._compile_seconds = 0.0
        self._spent = 0.0
        self._begun: dict[str, float] = {}
        self._ended: set[str] = set()
        self._done: dict[str, float] = {}
        self._expected: dict[str, Work] = {}

    def expect(self, works: Mapping[str, Work]) -> None:
        """Takes what is now thought to be the work of all stages, or of those ahead.

        Args:
            works: The whole work of each stage, by key.
        """
        self._expected.update(works)

    def spend(self, key: str, *, seconds: float, tracing: float, passes: float) -> None:
        """Counts work that has been done.

        Args:
            key: Of the stage.
            seconds: How long it took.
            tracing: How many of the seconds went into tracing.
            passes: Passes of single images.
        """
        rest = seconds - tracing
        optimizing = max(0.0, rest - self._rate * passes)
        compiling = tracing + min(optimizing, _OPTIMIZING * tracing)
        self._compile_seconds += compiling
        self._pass_seconds += seconds - compiling
        self._passes += passes
        self._spent += seconds
        self._begun.setdefault(key, self._expected.get(key, Work(0.0)).compiles)
        self._done[key] = self._done.get(key, 0.0) + passes

    def skip(self, key: str, passes: float) -> None:
        """Counts work that an earlier run has done.

        Args:
            key: Of the stage.
            passes: Passes of single images.
        """
        self._done[key] = self._done.get(key, 0.0) + passes

    def end(self, key: str) -> None:
        """Takes a stage for done.

        Args:
            key: Of the stage.
        """
        self._ended.add(key)

    @property
    def _rate(self) -> float:
        return self._pass_seconds / self._passes if self._passes else 0.0

    @property
    def seconds(self) -> float | None:
        """What is left, or `None` as long as too little is known."""
        if not self._begun:
            return None
        compiling = self._compile_seconds / sum(self._begun.values())
        left = 0.0
        for key, work in self._expected.items():
            if key not in self._ended:
                passes = work.passes - self._done.get(key, 0.0)
                left += max(0.0, passes) * self._rate + work.seconds
                left += 0.0 if key in self._begun else work.compiles * compiling
        known = self._spent >= _FIRST * (self._spent + left)
        return left if known else None

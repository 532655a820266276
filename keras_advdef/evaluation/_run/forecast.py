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

# No forecast is given before this share of the time has passed.
_FIRST = 0.1
# TensorFlow optimizes a function at its first call. That takes at most this many times
# as long as tracing it.
_OPTIMIZING = 1.5
# The cost of a forward pass, as a share of a forward and a backward pass.
FORWARD = 1.0 / 3.0
# Most images that an attack breaks at all are broken after this many steps, or this
# share of the queries.
_STEPS_TO_BREAK = 5
_QUERIES_TO_BREAK = 0.4
# Compile time of a one-step attack, relative to others.
_LOOPLESS = 0.6
# An attack that stops early on broken images compiles more functions.
_LEAVING = 1.2


class Work(NamedTuple):
    """The work of one stage.

    Attributes:
        passes: Forward and backward passes of single images.
        compiles: Compile time, in units of an attack that does not stop early.
        seconds: Further time, independent of the model.
    """

    passes: float
    compiles: float = 1.0
    seconds: float = 0.0


class SoFar(NamedTuple):
    """What is known before a stage begins.

    Attributes:
        right: Which clean images the model classifies correctly in some draw.
        unbroken: Number of images that no attack has broken in all draws so far.
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
    """Returns the expected work of a stage.

    Args:
        stage: The stage.
        images: Number of images that it attacks.
        classes: Number of logits.
        broken: Share of them that it is expected to break.
        judged: Draws on which each attacked image is evaluated.
        slots: Images per step of the attack; 0 to ignore padding.
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
        # Smaller batches of the remaining images are compiled separately.
        compiles = _LEAVING + broken
    return Work((passes + judged * FORWARD) * images, compiles)


def _filled(images: float, broken: float, slots: int) -> float:
    """Share of the passes spent on unbroken images and on padding."""
    blocks = math.ceil(images / (2 * slots)) if slots else 0
    if not blocks:
        return 0.0
    standing = math.ceil(images * (1.0 - broken) / blocks)
    return min(1.0, blocks * block_size(min(standing, slots), slots) / images)


class Forecast:
    """Forecasts the remaining time from the passes counted so far and their duration.

    Each stage traces and optimizes its functions once, whatever the number of images,
    so this time is counted separately.

    Args:
        rate: Seconds per pass of one image in a first try.
        tried: Number of images in that try.

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

"""PlannedLooks: an exact lower bound of a probability whose draws may stop early."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Self

# Draws before the first look; each later one has twice as many.
_FIRST_LOOK = 128


def lower_bound(hits: int, draws: int, failure: float) -> float:
    """Returns the Clopper-Pearson lower bound of a probability.

    Example:

    >>> from keras_advdef.models._planned_looks import lower_bound
    >>> round(lower_bound(10, 10, 0.01), 6)
    0.630957
    """
    # Imported here: `scipy` is slow to import.
    from scipy.stats import beta

    return float(beta.ppf(failure, hits, draws - hits + 1)) if hits else 0.0


def draws_needed(wanted: float, failure: float, *, stops_when_reached: bool) -> int:
    """Returns how many draws, all of them hits, bound a chance above `wanted`.

    Example:

    >>> from keras_advdef.models._planned_looks import draws_needed
    >>> draws_needed(0.5, 0.001, stops_when_reached=True)
    10
    """
    # The bound of draws that all hit is a root of the chance to fail.
    count = int(math.log(failure) / math.log(wanted)) + 1
    if stops_when_reached and count > _FIRST_LOOK:
        count = int(math.log(0.5 * failure) / math.log(wanted)) + 1
    return count


@dataclasses.dataclass(frozen=True)
class PlannedLooks:
    """When to look at draws, and what each look may claim.

    Looks are planned before the first draw, and the chance to fail is shared among
    them. By the union bound the bounds of all looks hold at once except with that
    chance, whenever the draws stop: half of it belongs to the last look, which has all
    draws.

    Args:
        draws: Number of draws at each look, in increasing order.
        failures: Chance of each look to claim too much.
        wanted: Probabilities that a bound is wanted to reach, in increasing order.
        failure: The chance of all looks together.

    Example:

    >>> from keras_advdef.models._planned_looks import PlannedLooks
    >>> PlannedLooks.of(1000, 0.001, [0.9], stops_when_reached=True).draws
    (128, 256, 512, 1000)
    """

    draws: tuple[int, ...]
    failures: tuple[float, ...]
    wanted: tuple[float, ...]
    failure: float

    @classmethod
    def of(
        cls,
        samples: int,
        failure: float,
        wanted: Sequence[float],
        *,
        stops_when_reached: bool,
    ) -> Self:
        """Returns the looks at up to `samples` draws.

        Unless it stops when a probability is reached, the last look has the whole
        chance to fail, and the others only see that no wanted probability is in reach.
        """
        early: list[int] = []
        while _FIRST_LOOK * 2 ** len(early) < samples:
            early.append(_FIRST_LOOK * 2 ** len(early))
        share = 0.5 * failure if early and stops_when_reached else 0.0
        failures = [share / len(early) for _ in early]
        return cls(
            draws=(*early, samples),
            failures=(*failures, failure - share),
            wanted=tuple(sorted(wanted)),
            failure=failure,
        )

    @property
    def largest(self) -> float:
        """The largest bound there is: that of draws that all hit."""
        return lower_bound(self.draws[-1], self.draws[-1], self.failures[-1])

    def bound(self, draw: Callable[[int, int], int]) -> float:
        """Returns a lower bound of the chance of a hit.

        Args:
            draw: Returns how many of `count` new draws hit, called as `draw(look,
                count)`.
        """
        hits = done = 0
        bound = 0.0
        for look, (total, failure) in enumerate(
            zip(self.draws, self.failures, strict=True)
        ):
            hits += draw(look, total - done)
            done = total
            bound = max(bound, lower_bound(hits, done, failure))
            if self._is_settled(hits, done, bound):
                break
        return bound

    def _is_settled(self, hits: int, done: int, bound: float) -> bool:
        """Returns whether no further wanted probability is in reach.

        A look that gives up too soon loses a claim and makes none, so it takes nothing
        from the chance to fail.
        """
        missed = [each for each in self.wanted if each > bound]
        if not missed:
            return True
        samples = self.draws[-1]
        best = lower_bound(hits + samples - done, samples, self.failures[-1])
        misses = done - hits
        likely = 1.0 - lower_bound(misses, done, self.failure)
        return min(best, likely) < missed[0]

"""Plan: the attacks that an evaluation runs, and those that it skips."""

import dataclasses
from collections.abc import Mapping

from keras_advdef.evaluation._plan.stage import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skipped:
    """An attack that an evaluation skips.

    Attributes:
        attack: Name of the attack.
        reason: Why it is skipped, as half a sentence.
    """

    attack: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The stages of an evaluation, in order.

    Attributes:
        naive: The attack that ignores all defences.
        checks: Attacks that are compared with one another, by name.
        adaptive: Attacks on the images that are still unbroken.
        skipped: Attacks that are skipped.
        missing: Attacks that the model's cards name and that no stage runs.
        absent: Check attacks that are left out, and why, as half a sentence.
    """

    naive: Stage
    checks: dict[str, Stage]
    adaptive: tuple[Stage, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[str, ...]
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order in which they run."""
        return (self.naive, *self.checks.values(), *self.adaptive)

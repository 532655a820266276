"""Plan: which attacks an evaluation runs, and which it leaves out and why."""

import dataclasses

from keras_advdef.evaluation._plan.stage import Stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skipped:
    """An attack that an evaluation leaves out.

    Attributes:
        attack: What it is called.
        reason: Why, as half a sentence.
    """

    attack: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The stages of an evaluation, in their order.

    Attributes:
        naive: The attack that knows of no defence.
        checks: Attacks that are compared with one another, by name.
        adaptive: Attacks on what the others have left.
        skipped: Attacks that are left out.
        missing: Attacks that the model's cards name and that no stage runs.
    """

    naive: Stage
    checks: dict[str, Stage]
    adaptive: tuple[Stage, ...]
    skipped: tuple[Skipped, ...]
    missing: tuple[str, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in the order in which they run."""
        return (self.naive, *self.checks.values(), *self.adaptive)

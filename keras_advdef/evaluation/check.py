"""Check: the verdict of one sanity check."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one sanity check.

    Args:
        name: Name of the check.
        passed: Whether the check passed; `None` if it could not be run.
        detail: The finding, in a sentence.
        reason: How the headline describes a failure.

    Example:

    >>> check = keras_advdef.evaluation.better_than_chance([0, 1, 1, 0], [0, 1, 1, 0])
    >>> check.name, check.passed
    ('better_than_chance', True)
    """

    name: str
    passed: bool | None
    detail: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Returns the check as JSON values."""
        return {"name": self.name, "passed": self.passed, "detail": self.detail}

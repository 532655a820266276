"""Check: the verdict of one sanity check."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One question about an evaluation, with its answer.

    Attributes:
        name: Name of the check.
        passed: Whether all is well; `None` if it could not be looked at.
        detail: What was found, in a sentence.
        reason: What a failure is called in the headline.
    """

    name: str
    passed: bool | None
    detail: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Returns the check as JSON values."""
        return {"name": self.name, "passed": self.passed, "detail": self.detail}

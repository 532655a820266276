"""How much an evaluation attacks, by the name of its budget."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Sizes of one budget.

    Attributes:
        name: "quick", "standard" or "full".
        images: Most images that are attacked; `None` for all.
        checked: Most images on which the sanity checks and the curve are measured.
        searched: Most images whose smallest perturbation is searched for.
        passes: Most model passes an image may cost; attacks beyond are left out.
    """

    name: str
    images: int | None
    checked: int
    searched: int
    passes: int


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget(name="quick", images=200, checked=200, searched=50, passes=4_000),
        Budget(name="standard", images=1000, checked=200, searched=100, passes=25_000),
        Budget(name="full", images=None, checked=200, searched=100, passes=100_000),
    )
}

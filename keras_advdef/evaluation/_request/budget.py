"""The budgets of an evaluation, by name."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Sizes of one budget.

    Attributes:
        name: "quick", "standard" or "full".
        images: Largest number of attacked images; `None` for all.
        checked: Largest number of images for the sanity checks and the curve.
        searched: Largest number of images whose smallest perturbation is searched.
        passes: Largest number of model passes per image; costlier attacks are skipped.
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

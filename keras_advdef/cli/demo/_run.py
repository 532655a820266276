"""What one run of the demo used and measured."""

import dataclasses
import datetime

from keras_advdef.attacks import Attack
from keras_advdef.cli.demo._budget import Budget
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.check import Check
from keras_advdef_command.demo_flags import DemoFlags

_CURVE_FACTORS = (0.0, 0.25, 0.5, 0.75, 1.5)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DemoRun:
    """Inputs and results of a demo, for the report, the table and the plot.

    Attributes:
        flags: What the user asked for.
        budget: The budget used, with defaults filled in.
        dataset: The images used.
        attack: The attack used to measure accuracy.
        curves: For "undefended" and "defended", one estimate for each of `epsilons`.
        checks: For both, whether clean accuracy is better than chance.
        started: When the run began.
        seconds: Duration of each stage, by its name.
    """

    flags: DemoFlags
    budget: Budget
    dataset: Dataset
    attack: Attack
    curves: dict[str, list[AccuracyEstimate]]
    checks: dict[str, Check]
    started: datetime.datetime
    seconds: dict[str, float]

    @staticmethod
    def epsilons_around(epsilon: float) -> list[float]:
        """Returns the epsilons of a curve: from 0 to beyond `epsilon`, within [0, 1].

        Args:
            epsilon: The epsilon of the table.

        Returns:
            Increasing numbers; the first is 0 and one is `epsilon`.
        """
        # Round to six digits so that 0.75 * 0.15 reads well; keep `epsilon` exact.
        scaled = {float(f"{factor * epsilon:.6g}") for factor in _CURVE_FACTORS}
        return sorted({min(1.0, value) for value in scaled} | {epsilon})

    @property
    def epsilons(self) -> list[float]:
        """The horizontal axis of the curves."""
        return self.epsilons_around(self.budget.epsilon)

    def clean(self, name: str) -> AccuracyEstimate:
        """Returns the clean accuracy.

        Args:
            name: "undefended" or "defended".

        Returns:
            The estimate.
        """
        return self.curves[name][0]

    def adversarial(self, name: str) -> AccuracyEstimate:
        """Returns the accuracy under the attack at the epsilon of the table.

        Args:
            name: "undefended" or "defended".

        Returns:
            The estimate.
        """
        return self.curves[name][self.epsilons.index(self.budget.epsilon)]

    @property
    def failed_checks(self) -> list[str]:
        """Sentences that say what is wrong with the classifiers before any attack."""
        return [
            f"{name.capitalize()}: {check.reason} {check.detail}"
            for name, check in self.checks.items()
            if check.passed is False
        ]

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        warning = "".join(f"{sentence} " for sentence in self.failed_checks)
        return (
            f"{warning}Accuracy under {self.attack} (linf, "
            f"epsilon {self.budget.epsilon:.4g}) "
            f"on {len(self.dataset.x_test)} test images of {self.dataset.name}: "
            f"undefended {self.adversarial('undefended')}, "
            f"defended {self.adversarial('defended')}."
        )

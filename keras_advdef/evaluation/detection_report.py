"""DetectionReport: how well a detector tells adversarial images from clean ones."""

import dataclasses
from typing import Any

import numpy as np

from keras_advdef.core.text import markdown_table
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.draw_curve import plain_text


@dataclasses.dataclass(frozen=True)
class DetectionReport:
    """Scores of clean and adversarial images, and the detection rates they give.

    Args:
        threshold: The detector flags images with a score above it.
        clean: Scores of the clean images, `(count,)`.
        attacked: For each attack, the scores of the images that fool the classifier.
        tried: For each attack, the number of images attacked.

    Example:

    >>> from keras_advdef.evaluation import DetectionReport
    >>> report = DetectionReport(
    ...     0.5, np.array([0.1, 0.2]), {"FGSM": np.array([0.3, 0.9])}, {"FGSM": 4})
    >>> report.auc("FGSM"), str(report.detection_rate("FGSM"))
    (1.0, '50.0 % [1.3, 98.7]')
    """

    threshold: float
    clean: np.ndarray
    attacked: dict[str, np.ndarray]
    tried: dict[str, int]

    @property
    def false_positive_rate(self) -> AccuracyEstimate:
        """Share of the clean images that are flagged."""
        return AccuracyEstimate(
            int((self.clean > self.threshold).sum()), len(self.clean)
        )

    def detection_rate(self, attack: str) -> AccuracyEstimate | None:
        """Returns the share of successful adversarial images that are flagged.

        Args:
            attack: Name of the attack.

        Returns:
            The estimate, or `None` if the attack never fooled the classifier.
        """
        scores = self.attacked[attack]
        flagged = int((scores > self.threshold).sum())
        return AccuracyEstimate(flagged, len(scores)) if len(scores) else None

    def unnoticed(self, attack: str) -> AccuracyEstimate:
        """Returns the share of all attacked images that fool classifier and detector.

        Args:
            attack: Name of the attack.
        """
        scores = self.attacked[attack]
        return AccuracyEstimate(
            int((scores <= self.threshold).sum()), self.tried[attack]
        )

    def roc(self, attack: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the false and true positive rates of all thresholds, from (0, 0).

        Args:
            attack: Name of the attack.
        """
        scores = self.attacked[attack]
        cuts = np.unique(np.concatenate([self.clean, scores]))[::-1]
        rates = [
            (values[:, None] >= cuts).mean(axis=0) for values in (self.clean, scores)
        ]
        false, true = (np.concatenate([[0.0], rate]) for rate in rates)
        return false, true

    def auc(self, attack: str) -> float | None:
        """Returns the area under the ROC curve; `None` if no attack succeeded.

        This is the probability that an adversarial image scores higher than a clean
        one.

        Args:
            attack: Name of the attack.
        """
        if not len(self.attacked[attack]):
            return None
        return float(np.trapezoid(*reversed(self.roc(attack))))

    def to_json(self) -> dict[str, Any]:
        """Returns the values of the table as JSON values."""
        attacks = {}
        for name in self.attacked:
            rate = self.detection_rate(name)
            attacks[name] = {
                "tried": self.tried[name],
                "fooled": len(self.attacked[name]),
                "detection_rate": None if rate is None else rate.to_json(),
                "auc": self.auc(name),
                "unnoticed": self.unnoticed(name).to_json(),
            }
        return {
            "threshold": self.threshold,
            "false_positive_rate": self.false_positive_rate.to_json(),
            "attacks": attacks,
        }

    def to_markdown(self) -> str:
        """Returns the detection rate of each attack as a Markdown table."""
        rows = []
        for name, scores in self.attacked.items():
            rate, area = self.detection_rate(name), self.auc(name)
            rows.append(
                [
                    name,
                    f"{len(scores)} of {self.tried[name]}",
                    "-" if rate is None else str(rate),
                    "-" if area is None else f"{area:.4f}",
                    str(self.unnoticed(name)),
                ]
            )
        header = ["attack", "fooled the classifier", "detected, of these", "AUC"]
        table = markdown_table([*header, "undetected, of all"], rows)
        return (
            f"Threshold {self.threshold:.4g}; false positives: "
            f"{self.false_positive_rate} of {len(self.clean)} clean images.\n\n{table}"
        )

    def plot(self) -> Any:
        """Returns the ROC curves as a matplotlib figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.0, 5.8), layout="constrained")
        axes = figure.subplots()
        for name, scores in self.attacked.items():
            if len(scores):
                label = plain_text(f"{name} (AUC {self.auc(name):.3f})")
                axes.plot(*self.roc(name), label=label)
        at = self.false_positive_rate.accuracy
        axes.axvline(at, color="0.4", linestyle="--", linewidth=1, label="threshold")
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        axes.set(
            xlabel="false positives", ylabel="detected", xlim=(0, 1), ylim=(0, 1.01)
        )
        axes.grid(alpha=0.3)
        # The names of attacks are long: below the axes they cover no curve.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
        return figure

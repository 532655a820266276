"""CorruptionReport: accuracy on images with common corruptions."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.core.files import atomic_write, atomic_write_text
from keras_advdef.core.text import markdown_table
from keras_advdef.evaluation._report.corruption_plot import corruption_plot
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate, percent

# The name of the clean image among the examples.
CLEAN = "none"
_NAME = "corruptions"
# Named after a person.
_NAMED = ("gaussian",)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CorruptionReport:
    """The findings of `evaluate_corruptions`.

    Args:
        clean: Accuracy on the clean images.
        accuracies: For each corruption, the accuracy at each severity; every
            corruption at the same severities.
        seed: Seed of the draws.
        examples: One image for each corruption, at the middle severity, and clean as
            "none"; in `[0, 1]`, channels last. May be empty.

    Example:

    >>> from keras_advdef.evaluation import AccuracyEstimate, CorruptionReport
    >>> report = CorruptionReport(
    ...     clean=AccuracyEstimate(9, 10),
    ...     accuracies={"fog": {3: AccuracyEstimate(8, 10), 5: AccuracyEstimate(5, 10)}}
    ... )
    >>> report.mean["accuracy"], report.lowest
    (0.65, ('fog', 5))
    """

    clean: AccuracyEstimate
    accuracies: Mapping[str, Mapping[int, AccuracyEstimate]]
    seed: int = 0
    examples: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities, in increasing order."""
        return tuple(next(iter(self.accuracies.values())))

    @property
    def mean(self) -> dict[str, Any]:
        """Mean over all corruptions and severities: `accuracy`, `interval`, `count`.

        The interval is that of the mean rounded to whole images. It is wider than
        needed, since it takes an image's corruptions to stand or fall together.
        """
        return _mean(
            [each for row in self.accuracies.values() for each in row.values()]
        )

    def mean_of(self, kind: str) -> dict[str, Any]:
        """Returns the mean of one corruption over the severities; keys as `mean`.

        Args:
            kind: Name of the corruption.
        """
        return _mean([*self.accuracies[kind].values()])

    @property
    def lowest(self) -> tuple[str, int]:
        """The corruption and severity with the lowest accuracy."""
        cells = [
            (estimate.accuracy, kind, severity)
            for kind, row in self.accuracies.items()
            for severity, estimate in row.items()
        ]
        _, kind, severity = min(cells, key=lambda cell: cell[0])
        return kind, severity

    def to_json(self) -> dict[str, Any]:
        """Returns the contents of `corruptions.json` as JSON values."""
        kinds = [
            {
                "name": kind,
                "mean": self.mean_of(kind),
                "severities": [
                    {"severity": severity, **estimate.to_json()}
                    for severity, estimate in row.items()
                ],
            }
            for kind, row in self.accuracies.items()
        ]
        return {
            "clean": self.clean.to_json(),
            "mean": self.mean,
            "interval_method": "clopper-pearson",
            "corruptions": kinds,
            "seed": self.seed,
        }

    @classmethod
    def from_json(
        cls, values: dict[str, Any], examples: Mapping[str, np.ndarray] | None = None
    ) -> "CorruptionReport":
        """Returns the report of the values that `to_json` returned.

        Args:
            values: The values, for example those under "corruptions" in `report.json`.
            examples: See above; `None` for none.
        """
        return cls(
            clean=_estimate(values["clean"]),
            accuracies={
                each["name"]: {
                    cell["severity"]: _estimate(cell) for cell in each["severities"]
                }
                for each in values["corruptions"]
            },
            seed=values["seed"],
            examples=examples or {},
        )

    @property
    def finding(self) -> str:
        """The mean and the lowest accuracy in one sentence."""
        kind, severity = self.lowest
        lowest = percent(self.accuracies[kind][severity].to_json())
        return (
            f"With common corruptions instead of an attack: {percent(self.mean)} on "
            f"average, against {self.clean} without; lowest with {title_of(kind)} of "
            f"severity {severity}: {lowest}."
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Returns the header and the rows of a table of all accuracies."""
        titles = [f"severity {each}" for each in self.severities]
        rows = [
            [title_of(kind), *map(str, row.values()), percent(self.mean_of(kind))]
            for kind, row in self.accuracies.items()
        ]
        return ["corruption", *titles, "mean"], rows

    def to_markdown(self) -> str:
        """Returns the finding and the table as Markdown."""
        return f"{self.finding}\n\n{markdown_table(*self.table())}"

    def plot(self) -> Any:
        """Returns a matplotlib figure: an example and the accuracies of each kind."""
        rows = [
            (CLEAN, self.examples.get(CLEAN), [], 100 * self.clean.accuracy),
            *(
                (
                    title_of(kind),
                    self.examples.get(kind),
                    [100 * estimate.accuracy for estimate in row.values()],
                    100 * self.mean_of(kind)["accuracy"],
                )
                for kind, row in self.accuracies.items()
            ),
        ]
        return corruption_plot(rows, self.severities)

    def save(self, folder: str | Path) -> None:
        """Writes corruptions.json, corruptions.md and corruptions.png.

        Args:
            folder: The folder; created if missing. Each file is written atomically.

        Raises:
            OSError: If a file cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        picture = self.plot()
        atomic_write(
            folder / f"{_NAME}.png", lambda path: picture.savefig(path, dpi=150)
        )
        text = f"# Accuracy with common corruptions\n\n{self.to_markdown()}\n"
        atomic_write_text(folder / f"{_NAME}.md", text)
        values = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        atomic_write_text(folder / f"{_NAME}.json", values)


def title_of(kind: str) -> str:
    """Returns the name of a corruption for readers.

    Args:
        kind: Its name as an argument.

    Example:

    >>> from keras_advdef.evaluation.corruption_report import title_of
    >>> title_of("jpeg_compression")
    'JPEG compression'
    """
    words = kind.replace("jpeg", "JPEG").split("_")
    return " ".join(each.capitalize() if each in _NAMED else each for each in words)


def _estimate(values: dict[str, Any]) -> AccuracyEstimate:
    count = values["count"]
    return AccuracyEstimate(round(values["accuracy"] * count), count)


def _mean(estimates: Sequence[AccuracyEstimate]) -> dict[str, Any]:
    accuracy = sum(each.accuracy for each in estimates) / len(estimates)
    count = estimates[0].count
    rounded = AccuracyEstimate(round(accuracy * count), count)
    return {**rounded.to_json(), "accuracy": accuracy}

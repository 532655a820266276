"""HardenedModel: what `harden` returns."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import keras

from keras_advdef.core.export_model import export_model
from keras_advdef.core.files import atomic_write, atomic_write_text
from keras_advdef.evaluation import RobustnessReport, compare_reports
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.recipes._harden.curves import epsilon_figure, training_figure
from keras_advdef.recipes._harden.page import hardened_page

MODEL, SERVED = "model.keras", "served"
BEFORE, AFTER = "before", "after"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardenedModel:
    """A model that `harden` has trained, and what it was worth before and after.

    Args:
        model: The classifier; the very object that was passed in, trained in place.
        before: The report of the model as it came.
        after: The report of the hardened model, on the same images.
        history: The logs of each epoch by name, as in `keras.callbacks.History`.
        facts: JSON values: the recipe, epsilon, plan, best epoch and what was chosen.
        example: A few images in `[0, 1]`, clean and attacked, `(2, count, ...)`.

    Example:

    >>> from keras_advdef.recipes import HardenedModel
    >>> list(HardenedModel.__annotations__)[:3]
    ['model', 'before', 'after']
    """

    model: keras.Model
    before: RobustnessReport
    after: RobustnessReport
    history: dict[str, list[float]]
    facts: dict[str, Any]
    example: Any = dataclasses.field(default=None, repr=False)

    def summary(self) -> str:
        """Returns the result in a few lines of text."""
        facts = self.facts
        rows = [
            ("", "before", "after"),
            ("clean", percent(self.before.clean), percent(self.after.clean)),
            ("attacked", percent(self.before.adaptive), percent(self.after.adaptive)),
        ]
        return "\n".join(
            [
                *(f"{name:8}  {one:22}  {other}" for name, one, other in rows),
                f"Attacked: {facts['epsilon_text']}, on {self.after.clean['count']} "
                "images; 95 % intervals.",
                f"Recipe {facts['recipe']}: {facts['epochs']} epochs, the best was "
                f"epoch {facts['best_epoch'] + 1}.",
                self.after.headline,
            ]
        )

    def plot(self) -> Any:
        """Returns a matplotlib figure: training curves, and accuracy before and after.

        It asks for the package's extra `all`, or for matplotlib alone.
        """
        return training_figure(self)

    def to_html(self) -> str:
        """Returns one self-contained page: both numbers, curves and pictures."""
        return hardened_page(self)

    def save(self, folder: str | Path) -> None:
        """Writes model, page and reports to a folder.

        That is `model.keras` and `served/`, the classifier alone; `report.html`,
        `report.png` and `epsilon.png`, a change of this size on a few images;
        `comparison.html`, with all numbers side by side; and the reports in `before/`
        and `after/`.

        Args:
            folder: The folder; created if missing. Each file is written atomically.

        Raises:
            OSError: If a file cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, report in ((BEFORE, self.before), (AFTER, self.after)):
            report.save(folder / name)
        atomic_write(folder / MODEL, self.model.save)
        export_model(self.model, folder / SERVED, verbose=False)
        figures = {"report.png": self.plot()}
        if self.example is not None:
            text = self.facts["epsilon_text"]
            figures["epsilon.png"] = epsilon_figure(self.example, text)
        for name, figure in figures.items():
            atomic_write(folder / name, functools.partial(figure.savefig, dpi=150))
        pages = {
            "report.html": self.to_html(),
            "comparison.html": compare_reports(
                [self.before, self.after], ["before", "after"], html=True
            ),
        }
        for name, text in pages.items():
            atomic_write_text(folder / name, text)

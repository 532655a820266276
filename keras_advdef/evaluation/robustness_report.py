"""RobustnessReport: the findings of an evaluation, to read, save and compare."""

import errno
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.files import atomic_write, atomic_write_text
from keras_advdef.core.untrusted import (
    Refusal,
    read_errors_as,
    read_json,
    read_text,
)
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.corruption_examples import (
    load_examples,
    save_examples,
)
from keras_advdef.evaluation._report.curve_figure import curve_figure
from keras_advdef.evaluation._report.model_card import model_card
from keras_advdef.evaluation._report.report_form import check_report
from keras_advdef.evaluation._report.report_html import Pictures, report_html
from keras_advdef.evaluation._report.report_markdown import report_markdown
from keras_advdef.evaluation._report.report_plot import report_plot
from keras_advdef.evaluation._report.seal import Seal
from keras_advdef.evaluation.corruption_report import CLEAN, CorruptionReport

REPORT, MODEL_CARD = "report.json", "model_card.md"
_GALLERY, _EXAMPLE, _IMAGES = "gallery.npz", "example.npz", "images.csv"
_CORRUPTED, _HEATMAP = "corruptions.npz", "corruptions.png"
FILES = (
    REPORT,
    MODEL_CARD,
    _GALLERY,
    _EXAMPLE,
    _IMAGES,
    _CORRUPTED,
    _HEATMAP,
    "report.png",
    "report.md",
    "report.html",
)
# The files from which the others can be redrawn.
KEPT = frozenset({REPORT, _GALLERY, _EXAMPLE, _IMAGES, _CORRUPTED})


class RobustnessReport:
    """The findings of `evaluate_robustness`.

    Args:
        data: JSON values with the keys of `report.json`; everything that differs
            between equal runs is under "run".
        gallery: The most fragile and the most robust images, or `None`.
        example: One image under an attack at epsilon, or `None`.
        images: The contents of `images.csv`, with the result of each attack for each
            image, or `None`.
        corrupted: An image under each corruption, as in `CorruptionReport.examples`,
            or `None`.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> images = np.random.default_rng(0).uniform(size=(6, 2, 2, 1))
    >>> report = keras_advdef.evaluation.evaluate_robustness(
    ...     model, images, [0, 1] * 3, epsilon=0.1, budget="quick", verbose=0)
    >>> 0.0 <= report.adaptive["accuracy"] <= report.clean["accuracy"]
    True
    """

    def __init__(
        self,
        data: dict[str, Any],
        gallery: Gallery | None = None,
        *,
        example: Gallery | None = None,
        images: str | None = None,
        corrupted: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.data = data
        self.gallery = gallery
        self.example = example
        self.images = images
        self.corrupted = corrupted

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        return self.data["headline"]

    @property
    def masking_suspected(self) -> bool:
        """Whether a sanity check failed; `False` for a model at chance."""
        return self.data["masking_suspected"]

    @property
    def clean(self) -> dict[str, Any]:
        """Clean accuracy: `accuracy`, `interval`, `count`, `attacks`."""
        return self.data["clean"]

    @property
    def naive(self) -> dict[str, Any]:
        """Accuracy under the naive attack, which ignores defences; keys as `clean`."""
        return self.data["naive"]

    @property
    def adaptive(self) -> dict[str, Any]:
        """Accuracy under the worst of all attacks for each image; keys as `clean`.

        For random models it is the mean over fresh draws, and `judgements` holds the
        number of `draws`, the accuracies in each (`evaluations`), and three estimates:
        their `mean`, `worst` (right in all draws) and `majority` (in more than half).
        """
        return self.data["adaptive"]

    @property
    def checks(self) -> list[dict[str, Any]]:
        """Verdicts of the sanity checks: `name`, `passed`, `detail`."""
        return self.data["checks"]

    @property
    def corruptions(self) -> CorruptionReport | None:
        """The accuracy with common corruptions, `None` if it was not measured."""
        values = self.data.get("corruptions")
        return values and CorruptionReport.from_json(values, self.corrupted)

    def to_json(self) -> str:
        """Returns the contents of `report.json`."""
        return json.dumps(self.data, indent=2, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Returns the report as Markdown."""
        return report_markdown(self.data)

    def to_html(self) -> str:
        """Returns the report as one self-contained HTML page."""
        corruptions = self.corruptions
        pictures = Pictures(
            wide=curve_figure(self.data),
            narrow=curve_figure(self.data, is_narrow=True),
            gallery=self.gallery,
            example=self.example,
            corruptions=corruptions and corruptions.plot(),
        )
        return report_html(self.data, pictures)

    def to_model_card(self) -> str:
        """Returns a model card: Markdown with the metadata block of Hugging Face."""
        return model_card(self.data)

    def plot(self) -> Any:
        """Returns a matplotlib figure of the curve and the gallery."""
        return report_plot(self.data, self.gallery)

    def save(self, folder: str | Path, *, model_card: bool = False) -> None:
        """Writes report.json, report.md, report.html and report.png.

        It also writes images.csv, with the results image by image; corruptions.png, if
        corruptions were measured; gallery.npz, example.npz and corruptions.npz, with
        the images of the figures; and seal.json, with a checksum for each file.

        Args:
            folder: The folder; created if missing. Each file is written atomically,
                the JSON and the seal last.
            model_card: Whether to write model_card.md, too, which becomes the README.md
                of a repository on the Hugging Face Hub.

        Raises:
            OSError: If a file cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        shown = {_GALLERY: self.gallery, _EXAMPLE: self.example}
        arrays = {name: each for name, each in shown.items() if each is not None}
        for name, each in arrays.items():
            atomic_write(folder / name, each.save)
        figures = self._save_pictures(folder)
        texts = {
            **({} if self.images is None else {_IMAGES: self.images}),
            **({MODEL_CARD: self.to_model_card()} if model_card else {}),
            "report.md": self.to_markdown(),
            "report.html": self.to_html(),
            REPORT: self.to_json(),
        }
        for name, text in texts.items():
            atomic_write_text(folder / name, text)
        written = [*texts, *figures, *arrays]
        Seal.write(folder, self.data["run"].get("identity"), written)

    def _save_pictures(self, folder: Path) -> list[str]:
        """Writes the pictures, and the corrupted images in one of them."""
        figures, names = {"report.png": self.plot()}, []
        if self.corruptions is not None:
            figures[_HEATMAP] = self.corruptions.plot()
        for name, figure in figures.items():
            save = functools.partial(figure.savefig, dpi=150)
            atomic_write(folder / name, save)
        if self.corrupted is not None:
            save = functools.partial(save_examples, examples=self.corrupted)
            atomic_write(folder / _CORRUPTED, save)
            names.append(_CORRUPTED)
        return [*figures, *names]

    @classmethod
    def load(cls, folder: str | Path) -> "RobustnessReport":
        """Returns the report that `save` wrote.

        Args:
            folder: The folder. Without a seal.json, report.json is read unchecked and
                nothing else is loaded.

        Raises:
            OSError: If there is no report.
            ValueError: If a file of the report is damaged.
        """
        folder = Path(folder)
        path = folder / REPORT
        if not path.exists():
            missing = errno.ENOENT
            raise FileNotFoundError(missing, os.strerror(missing), str(path))
        seal = Seal.of(folder)
        for name in sorted(set() if seal is None else seal.damaged & KEPT):
            raise _damaged(folder, name)("")
        refuse = _damaged(folder, REPORT)
        data = read_json(path, refuse)
        with read_errors_as(refuse, "It is not a report: {}."):
            check_report(data)
        sealed = () if seal is None else seal.files
        gallery, example = (
            Gallery.load(folder / name, _damaged(folder, name))
            if name in sealed
            else None
            for name in (_GALLERY, _EXAMPLE)
        )
        images = None
        if _IMAGES in sealed:
            images = read_text(folder / _IMAGES, _damaged(folder, _IMAGES))
        corrupted = None
        if _CORRUPTED in sealed and data.get("corruptions") is not None:
            kinds = [each["name"] for each in data["corruptions"]["corruptions"]]
            corrupted = load_examples(
                folder / _CORRUPTED,
                _damaged(folder, _CORRUPTED),
                names=[CLEAN, *kinds],
            )
        return cls(
            data, gallery=gallery, example=example, images=images, corrupted=corrupted
        )

    def __repr__(self) -> str:
        return f"RobustnessReport({self.headline!r})"


def _damaged(folder: Path, name: str) -> Refusal:
    def refuse(advice: str) -> ValueError:
        rule = "a folder with a whole report"
        said = f"{name} in it is damaged. {advice}".rstrip()
        return invalid("RobustnessReport", "folder", rule, str(folder), advice=said)

    return refuse

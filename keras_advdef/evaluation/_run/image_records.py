"""ImageRecords: what each attack did to each image, and one image to show."""

import dataclasses

import numpy as np

from keras_advdef.evaluation._run.ledger import Arrays


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One image under an attack of the evaluation, which shows what epsilon means.

    Attributes:
        row: Index of the image.
        image: The attacked image in the value range.
        predicted: Its predicted class.
        is_broken: Whether that class is wrong, and undetected, in most draws.
    """

    row: int
    image: np.ndarray
    predicted: int
    is_broken: bool

    @property
    def rank(self) -> tuple[bool, int]:
        """Smaller for examples that show more."""
        return not self.is_broken, self.row


class ImageRecords:
    """Collects the results of all stages image by image.

    Args:
        labels: Integer labels of all images.
        draws: Draws on which each attacked image is evaluated.
    """

    def __init__(self, labels: np.ndarray, draws: int) -> None:
        self._labels = labels
        self.draws = draws
        # By the key of the stage, the draws that it got wrong; -1 if not attacked.
        self.wrong: dict[str, np.ndarray] = {}
        self.example: Example | None = None

    def shown(self, part: Arrays, block: np.ndarray) -> int:
        """Returns the place in a block of the image that serves best as an example.

        Args:
            part: `wrong` and `predicted` of the block.
            block: Indices of its images.
        """
        return int(self._fooled(part, block).argmax())

    def _fooled(self, part: Arrays, block: np.ndarray) -> np.ndarray:
        # In the draw that is shown, a random model may still be right.
        is_wrong = part["predicted"] != self._labels[block]
        return is_wrong & (part["wrong"] > self.draws / 2)

    def note(self, key: str, block: np.ndarray, part: Arrays) -> None:
        """Adds the result of a block.

        Args:
            key: Key of its stage.
            block: Indices of its images.
            part: `wrong`, `predicted`, and the attacked image at `shown`.
        """
        unknown = np.full(len(self._labels), -1)
        self.wrong.setdefault(key, unknown)[block] = part["wrong"]
        place = self.shown(part, block)
        found = Example(
            row=int(block[place]),
            image=part["shown"][0],
            predicted=int(part["predicted"][place]),
            is_broken=bool(self._fooled(part, block)[place]),
        )
        if self.example is None or found.rank < self.example.rank:
            self.example = found

    def redrawn(self, wrong: np.ndarray, draws: int) -> "ImageRecords":
        """Returns the records for a model that is judged on several draws after all.

        Args:
            wrong: Number of draws that the images attacked so far got wrong.
            draws: Number of draws.
        """
        other = ImageRecords(self._labels, draws)
        for key, each in self.wrong.items():
            other.wrong[key] = np.where(each < 0, each, wrong)
        return other

    def rejecting(self, label: int, rows: np.ndarray) -> "ImageRecords":
        """Returns the records for a model with a class that stands for an alarm.

        Args:
            label: The class.
            rows: Indices of images that an attack moved to it. They are not broken.
        """
        other = ImageRecords(self._labels, self.draws)
        for key, wrong in self.wrong.items():
            other.wrong[key] = wrong.copy()
            other.wrong[key][rows] = np.minimum(wrong[rows], 0)
        other.example = self.example
        if self.example is not None and self.example.predicted == label:
            other.example = dataclasses.replace(self.example, is_broken=False)
        return other

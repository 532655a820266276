"""A classification data set in the form that the commands use."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from keras_advdef.core.data.argument_name import part_owner
from keras_advdef.core.data.labelled_images import numeric_labels, to_unit_range
from keras_advdef.core.errors import invalid
from keras_advdef.core.labels import checked_labels


def _class_count(owner: str, labels: np.ndarray) -> int:
    if labels.ndim == 2 and labels.shape[1] > 1:
        return labels.shape[1]
    largest = int(labels.max())
    if not 1 <= largest < len(labels):
        rule = "numbers from 0, with at least two classes and no more than images"
        raise invalid(owner, "labels", rule, largest)
    return largest + 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images and labels, split into training and test.

    Attributes:
        name: What the user called it.
        x_train: Images of shape `(count, rows, cols, channels)`, float32 in `[0, 1]`.
        y_train: Labels of shape `(count,)`, int64 in `[0, classes)`.
        x_test: As `x_train`.
        y_test: As `y_train`.
        classes: Number of classes.
        class_names: Their names in the order of their numbers, `()` if they have none.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    class_names: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        name: str,
        *,
        x_train: ArrayLike,
        y_train: ArrayLike,
        x_test: ArrayLike,
        y_test: ArrayLike,
        class_names: tuple[str, ...] = (),
    ) -> "Dataset":
        """Checks arrays and returns them as a data set.

        Args:
            name: What the user passed as `--data`; error messages repeat it.
            x_train: Images of shape `(count, rows, cols)` or `(count, rows, cols,
                channels)`, whole numbers in `[0, 255]` or floats in `[0, 1]`.
            y_train: Whole numbers of shape `(count,)` or `(count, 1)`, or one-hot rows.
            x_test: As `x_train`, images of the same size.
            y_test: As `y_train`.
            class_names: Names of the classes, if they have names.

        Returns:
            A `Dataset`.

        Raises:
            ValueError: If an array is empty, out of range, not finite, or does not
                match the others.
        """
        owner = part_owner(name)
        train, test = to_unit_range(owner, {"x_train": x_train, "x_test": x_test})
        if train.shape[1:] != test.shape[1:]:
            rule = f"images of the training images' shape, {train.shape[1:]}"
            raise invalid(owner, "x_test", rule, test.shape[1:])
        train_labels = numeric_labels(f"{owner}, y_train", y_train)
        classes = _class_count(f"{owner}, y_train", train_labels)
        return cls(
            name=name,
            x_train=train,
            y_train=checked_labels(
                f"{owner}, y_train", train_labels, count=len(train), classes=classes
            ),
            x_test=test,
            y_test=checked_labels(
                f"{owner}, y_test",
                numeric_labels(f"{owner}, y_test", y_test),
                count=len(test),
                classes=classes,
            ),
            classes=classes,
            class_names=class_names,
        )

    def subsample(self, *, train: int, test: int, seed: int) -> "Dataset":
        """Returns a random subset of at most the given size.

        It is random because files are often sorted by class.

        Args:
            train: Maximum number of training images.
            test: Maximum number of test images.
            seed: Seed of the draw.

        Returns:
            A `Dataset`; `self` if it is small enough.
        """
        if len(self.x_train) <= train and len(self.x_test) <= test:
            return self
        generator = np.random.default_rng(seed)
        train_rows = np.sort(generator.permutation(len(self.x_train))[:train])
        test_rows = np.sort(generator.permutation(len(self.x_test))[:test])
        return dataclasses.replace(
            self,
            x_train=self.x_train[train_rows],
            y_train=self.y_train[train_rows],
            x_test=self.x_test[test_rows],
            y_test=self.y_test[test_rows],
        )

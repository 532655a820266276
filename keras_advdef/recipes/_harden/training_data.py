"""The images that `harden` trains on, chooses by and reports about."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_advdef.core.data.argument_name import named_argument, refused
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.core.data.image_folder import load_image_folder
from keras_advdef.core.data.npz import load_npz
from keras_advdef.core.digest import array_digest
from keras_advdef.core.errors import invalid, wrong_type
from keras_advdef.core.image_source import is_dataset, load_images
from keras_advdef.core.labels import checked_class_labels
from keras_advdef.core.model_inputs import single_input
from keras_advdef.core.stratified_split import stratified_order, stratified_split
from keras_advdef.core.value_range import ValueRange, check_values
from keras_advdef.recipes._harden.request import OWNER

_HELD_OUT_SHARE = 0.1
# The best epoch is chosen on at most so many images.
_MOST_SELECTION = 1000
_LEAST_TRAINING = 2
_FORMS = "a pair (images, labels), a `tf.data.Dataset`, a `PyDataset` or a path"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledArrays:
    """Images and labels of equal length.

    Attributes:
        images: Array `(count, ...)` in the value range.
        labels: Integer or one-hot labels.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, rows: np.ndarray) -> "LabelledArrays":
        """Returns some of the images.

        Args:
            rows: Their indices.
        """
        return LabelledArrays(images=self.images[rows], labels=self.labels[rows])

    def fingerprint(self) -> str:
        """Returns a digest of images and labels."""
        return array_digest(self.images, self.labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a training needs of images.

    Attributes:
        arrays: Training images in memory, or those seen in the first pass of `stream`.
        stream: A data set that draws its images anew in each pass, or `None`.
        selection: Images by which the best epoch is chosen.
        report: Images that are attacked before and after; no epoch was chosen by them.
        notes: Sentences on what was done with the user's data.
        class_names: Names of the classes, if a folder has them, else `()`.
    """

    arrays: LabelledArrays
    stream: Any
    selection: LabelledArrays
    report: LabelledArrays
    notes: tuple[str, ...]
    class_names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, train: Any, validation: Any, value_range: ValueRange, *, seed: int
    ) -> "TrainingData":
        """Loads, checks and splits the user's data.

        Args:
            train: The user's `train_data`.
            validation: The user's `validation_data`, or `None`.
            value_range: Range of the pixels.
            seed: Seed of the split.

        Raises:
            TypeError: If they are of another form.
            ValueError: If they cannot be used.
        """
        class_names: tuple[str, ...] = ()
        if isinstance(train, (str, Path)):
            dataset = _read("train_data", train)
            class_names = dataset.class_names
            train, tested = _parts(dataset, value_range)
            validation = tested if validation is None else validation
        if isinstance(validation, (str, Path)):
            validation = _parts(_read("validation_data", validation), value_range)[1]
        arrays = _loaded("train_data", train, value_range)
        is_steady = not is_dataset(train) or _is_steady(train, arrays)
        if is_dataset(train) and is_steady:
            arrays = _in_fixed_order(arrays)
        notes = []
        if validation is not None:
            held_out = _loaded("validation_data", validation, value_range)
            if is_dataset(validation):
                held_out = _in_fixed_order(held_out)
        elif is_steady:
            arrays, held_out = _split(arrays, seed=seed)
            notes.append(
                f"No validation_data: {len(held_out)} of "
                f"{len(arrays) + len(held_out)} training images are held out, in "
                "equal shares of each class."
            )
        else:
            rule = "given where `train_data` draws other images in each pass"
            advice = "Nothing can be held out of them; pass images of their own."
            raise invalid(OWNER, "validation_data", rule, None, advice=advice)
        selection, report = _halves(held_out, seed=seed)
        if selection is report:
            notes.append(
                "One image alone chooses the best epoch and is reported about."
            )
        return cls(
            arrays=arrays,
            stream=None if is_steady else train,
            selection=selection,
            report=report,
            notes=tuple(notes),
            class_names=class_names,
        )

    def fingerprint(self) -> str:
        """Returns a digest of the training images.

        Of images that are drawn anew in each pass, only their number, their form and
        the size of each class stay the same.
        """
        if self.stream is None:
            return self.arrays.fingerprint()
        form = (self.arrays.images.shape, str(self.arrays.images.dtype))
        return f"{form} {np.bincount(_classes(self.arrays)).tolist()}"

    def batches_per_epoch(self, batch_size: int) -> int:
        """Returns the number of steps of an epoch.

        Args:
            batch_size: Images in a step, where the data are in memory.
        """
        if self.stream is None:
            return max(1, len(self.arrays) // batch_size)
        if isinstance(self.stream, keras.utils.PyDataset):
            return int(self.stream.num_batches)
        count = int(self.stream.cardinality())
        return count if count > 0 else sum(1 for _ in self.stream)


def _read(argument: str, path: str | Path) -> Dataset:
    """Returns what a folder of images or a `.npz` file holds."""
    with named_argument(OWNER, argument):
        if Path(path).is_dir():
            return load_image_folder(str(path))
        if not Path(path).exists():
            rule = "an existing .npz file or folder of images"
            raise refused(rule, str(path), "Check the path.")
        return load_npz(str(path))


_Pair = tuple[np.ndarray, np.ndarray]


def _parts(dataset: Dataset, value_range: ValueRange) -> tuple[_Pair, _Pair]:
    """Returns images and labels to train on and to test on, in the value range."""
    train, test = map(value_range.from_unit, (dataset.x_train, dataset.x_test))
    return (train, dataset.y_train), (test, dataset.y_test)


def _loaded(argument: str, given: Any, value_range: ValueRange) -> LabelledArrays:
    """Returns the images and labels of an argument, read once."""
    labels = None
    images = given
    if isinstance(given, (tuple, list)) and len(given) == 2:
        images, labels = given
    elif not is_dataset(given):
        raise wrong_type(OWNER, argument, _FORMS, given)
    images, labels, _ = load_images(OWNER, images, labels, argument=argument)
    if labels is None:
        rule = "images with their labels"
        raise invalid(OWNER, argument, rule, given)
    arrays = LabelledArrays(
        images=_pixels(images), labels=np.asarray(single_input(OWNER, labels))
    )
    check_values(OWNER, arrays.images, value_range)
    checked_class_labels(OWNER, arrays.labels, count=len(arrays), classes=None)
    if not len(arrays):
        raise invalid(OWNER, argument, "at least one image", given)
    return arrays


def _pixels(images: Any) -> np.ndarray:
    """Returns an array; bytes stay bytes, which take a quarter of the memory."""
    array = np.asarray(images)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _is_steady(dataset: Any, arrays: LabelledArrays) -> bool:
    """Returns whether a second pass holds the same images, in whatever order."""
    again = load_images(OWNER, dataset, argument="train_data").images
    return _counts(arrays.images) == _counts(_pixels(again))


def _counts(images: np.ndarray) -> Counter[str]:
    return Counter(map(array_digest, images))


def _in_fixed_order(arrays: LabelledArrays) -> LabelledArrays:
    """Returns images in an order that a data set which shuffles cannot change."""
    pairs = zip(arrays.images, arrays.labels, strict=True)
    return arrays.rows(np.argsort([array_digest(*map(np.asarray, p)) for p in pairs]))


def _split(
    arrays: LabelledArrays, *, seed: int
) -> tuple[LabelledArrays, LabelledArrays]:
    count = max(1, round(_HELD_OUT_SHARE * len(arrays)))
    if len(arrays) - count < _LEAST_TRAINING:
        rule = f"at least {_LEAST_TRAINING + 1} images, or beside `validation_data`"
        raise invalid(OWNER, "train_data", rule, f"{len(arrays)} images")
    rows = stratified_split(_classes(arrays), test_count=count, seed=seed)
    train, held_out = (arrays.rows(each) for each in rows)
    return train, held_out


def _halves(
    held_out: LabelledArrays, *, seed: int
) -> tuple[LabelledArrays, LabelledArrays]:
    """Returns images to choose by and others to report about, if there are two."""
    if len(held_out) < 2:
        return held_out, held_out
    count = min(_MOST_SELECTION, len(held_out) // 2)
    order = stratified_order(_classes(held_out), seed=seed)
    # In their own order: an evaluation with a small budget takes the first ones.
    return held_out.rows(order[:count]), held_out.rows(order[count:])


def _classes(arrays: LabelledArrays) -> np.ndarray:
    return checked_class_labels(
        OWNER, arrays.labels, count=len(arrays), classes=None
    ).astype(np.int64)

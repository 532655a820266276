"""Images and labels from arrays, tensors and data sets."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import invalid, wrong_type
from keras_advdef.core.model_inputs import single_input

# A data set of unknown length may be endless; memory is not.
_MOST_BYTES = 2**34
_BOUND = "`dataset.take(100)`"


class LoadedImages(NamedTuple):
    """Images and labels loaded from a user's data.

    Attributes:
        images: Array-like.
        labels: The labels of the data set or of the caller, or `None`.
        is_whole: Whether these are all images of the data.
    """

    images: Any
    labels: Any
    is_whole: bool = True


def load_images(
    owner: str,
    images: Any,
    labels: Any = None,
    *,
    most: int | None = None,
    argument: str = "images",
) -> LoadedImages:
    """Returns images and labels from arrays, tensors or a data set.

    As in `fit`, the batches of a `tf.data.Dataset` or `keras.utils.PyDataset` are
    `images` or `(images, labels)`. It is read once, in its own order; sample weights
    are ignored.

    Args:
        owner: Name of the class or function that takes the images.
        images: Array-like, tensor or data set, alone or in a list or dictionary.
        labels: Labels of the images; `None` if the data set holds them.
        most: Largest number of images to read from a data set; `None` for all.
        argument: Name of the argument that holds the images.

    Returns:
        A `LoadedImages`. Arrays are returned unchanged, whatever `most` is.

    Raises:
        ValueError: If the data set is endless and `most` is `None`, or its batches do
            not fit together.
        TypeError: If the data can be read only once, like a generator.

    Example:

    >>> dataset = tf.data.Dataset.from_tensor_slices((np.zeros((5, 2, 2, 1)), range(5)))
    >>> images, labels, is_whole = keras_advdef.core.image_source.load_images(
    ...     "PGD", dataset.batch(2), most=3)
    >>> images.shape, labels.tolist(), is_whole
    ((3, 2, 2, 1), [0, 1, 2], False)
    """
    source = _Source(owner, argument)
    if is_dataset(images):
        return source.gathered(images, labels, most)
    if isinstance(images, Iterator):
        advice = "Collect its batches first, or make it a `tf.data.Dataset`."
        rule = "an array, a tensor, a `tf.data.Dataset` or a `PyDataset`"
        raise wrong_type(owner, argument, rule, images, advice=advice)
    return LoadedImages(source.single(images), labels)


def is_dataset(images: object) -> bool:
    """Returns whether images are a `tf.data.Dataset` or `keras.utils.PyDataset`.

    Args:
        images: The user's images.

    Example:

    >>> from keras_advdef.core.image_source import is_dataset
    >>> is_dataset(tf.data.Dataset.range(3)), is_dataset(np.zeros(3))
    (True, False)
    """
    return isinstance(images, (tf.data.Dataset, keras.utils.PyDataset))


class _Source(NamedTuple):
    """Loads images for one argument of a class or function."""

    owner: str
    argument: str

    def gathered(self, source: Any, labels: Any, most: int | None) -> LoadedImages:
        images: list[np.ndarray] = []
        classes: list[np.ndarray] = []
        count, is_whole = 0, True
        for batch in self._batches(source, most):
            if most is not None and count >= most:
                is_whole = False
                break
            x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
            images.append(np.asarray(self.single(x)))
            if y is not None:
                classes.append(np.asarray(self.single(y)))
            self._check_last(images, classes)
            count += len(images[-1])
        if not images:
            raise self._refused("a data set that is not empty", source)
        if classes and labels is not None:
            rule = "omitted if the data set holds labels"
            raise invalid(self.owner, "labels", rule, labels)
        found = np.concatenate(images)[:most]
        given = np.concatenate(classes)[:most] if classes else labels
        return LoadedImages(found, given, is_whole and len(found) == count)

    def single(self, images: Any) -> Any:
        return single_input(self.owner, images, argument=self.argument)

    def _batches(self, source: Any, most: int | None) -> Iterable[Any]:
        """Returns the batches of a data set, or raises if they must end but do not."""
        if isinstance(source, tf.data.Dataset):
            length = int(source.cardinality())
            endless, advice = length == tf.data.INFINITE_CARDINALITY, _BOUND
            batches: Iterable[Any] = source
        else:
            length = source.num_batches
            endless, advice = length is None, "a `num_batches`"
            numbers = itertools.count() if endless else range(length)
            batches = (source[number] for number in numbers)
        if endless and most is None:
            advice = f"Limit it, for example by {advice}."
            raise self._refused("a data set that has an end", source, advice)
        return batches

    def _check_last(self, images: list[np.ndarray], classes: list[np.ndarray]) -> None:
        """Raises if the latest batch is malformed or does not fit those before."""
        batch = images[-1]
        is_batch = batch.ndim > 0
        if classes:
            ours, theirs = batch.shape[:1], classes[-1].shape[:1]
            is_batch &= len(classes) == len(images) and ours == theirs
        if not is_batch:
            rule = "batches of as many labels as images"
            advice = "Batch a data set of single images with `dataset.batch(128)`."
            raise self._refused(rule, batch, advice)
        if batch.shape[1:] != images[0].shape[1:]:
            raise self._refused(f"all of shape {images[0].shape[1:]}", batch)
        if len(images) * batch.nbytes > _MOST_BYTES:
            rule = f"at most {_MOST_BYTES // 2**30} GiB"
            advice = f"Limit the data set, for example by {_BOUND}."
            raise self._refused(rule, f"{len(images)} batches", advice)

    def _refused(self, rule: str, value: object, advice: str = "") -> ValueError:
        return invalid(self.owner, self.argument, rule, value, advice=advice)

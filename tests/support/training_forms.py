"""The losses, data and options that users train with; see `model_forms` for nets."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.support.model_forms import images_of, labels_of

_CLASSES = 3
_BATCH = 4


@dataclasses.dataclass(frozen=True)
class LossForm:
    """A loss, and what goes with it into `compile` and `fit`."""

    name: str
    loss: Callable[[], Any]
    activation: str | None = None
    units: int = _CLASSES
    labels: np.ndarray = dataclasses.field(default_factory=labels_of)
    compiled: dict[str, Any] = dataclasses.field(default_factory=dict)
    fitted: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def one_hot() -> np.ndarray:
    return np.eye(_CLASSES, dtype="float32")[labels_of()]


def integer_one_hot_loss(labels: Any, outputs: Any) -> Any:
    """A user's function without casts: Keras passes labels of its own dtype."""
    return -keras.ops.sum(labels * keras.ops.log_softmax(outputs), axis=-1)


def scalar_loss(labels: Any, outputs: Any) -> Any:
    """A mean over the batch, which Keras accepts instead of one loss per image."""
    return keras.ops.mean(integer_one_hot_loss(labels, outputs))


def _ignored() -> np.ndarray:
    labels = labels_of()
    labels[::4] = -1
    return labels


_WEIGHTS = np.linspace(0.0, 2.0, 12, dtype="float32")

LOSSES = [
    LossForm(
        "sparse_name", lambda: "sparse_categorical_crossentropy", activation="softmax"
    ),
    LossForm(
        "categorical_name",
        lambda: "categorical_crossentropy",
        activation="softmax",
        labels=one_hot(),
    ),
    LossForm(
        "binary_name",
        lambda: "binary_crossentropy",
        activation="sigmoid",
        units=1,
        labels=labels_of(2),
    ),
    LossForm(
        "binary_column",
        lambda: keras.losses.BinaryCrossentropy(from_logits=True),
        units=1,
        labels=labels_of(2)[:, None],
    ),
    LossForm(
        "label_column",
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        labels=labels_of()[:, None],
    ),
    LossForm(
        "label_smoothing",
        lambda: keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1
        ),
        labels=one_hot(),
    ),
    LossForm(
        "soft_labels",
        lambda: keras.losses.CategoricalCrossentropy(from_logits=True),
        labels=0.7 * one_hot() + 0.1,
    ),
    LossForm(
        "focal",
        lambda: keras.losses.CategoricalFocalCrossentropy(from_logits=True),
        labels=one_hot(),
    ),
    LossForm(
        "binary_focal",
        lambda: keras.losses.BinaryFocalCrossentropy(from_logits=True),
        units=1,
        labels=labels_of(2),
    ),
    LossForm(
        "integer_one_hot_function",
        lambda: integer_one_hot_loss,
        labels=one_hot().astype("int64"),
    ),
    LossForm("scalar_function", lambda: scalar_loss, labels=one_hot()),
    LossForm(
        "loss_weights",
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        compiled={"loss_weights": 0.5},
    ),
    LossForm(
        "ignore_class",
        lambda: keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        ),
        labels=_ignored(),
    ),
    LossForm(
        "sum_reduction",
        lambda: keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="sum"
        ),
    ),
    LossForm(
        "class_weight",
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        fitted={"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
    ),
    LossForm(
        "sample_weight",
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        fitted={"sample_weight": _WEIGHTS},
    ),
]


class _Sequence(keras.utils.PyDataset):
    """Batches of images and labels by index."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        super().__init__()
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._images) // _BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(index * _BATCH, (index + 1) * _BATCH)
        return self._images[rows], self._labels[rows]


@dataclasses.dataclass(frozen=True)
class DataForm:
    """One way to pass the same twelve images in the same three batches."""

    name: str
    arguments: Callable[[np.ndarray, np.ndarray], dict[str, Any]]

    def __str__(self) -> str:
        return self.name


def _arrays(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {"x": x, "y": y, "batch_size": _BATCH, "shuffle": False}


def _lists_of_one(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {**_arrays(x, y), "x": [x]}


def _tensors(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {**_arrays(x, y), "x": tf.constant(x), "y": tf.constant(y)}


def _dataset(x: np.ndarray, y: np.ndarray) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(_BATCH)


def _known(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {"x": _dataset(x, y), "shuffle": False}


def _unknown(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """A dataset of unknown length and batch size."""
    unknown = _dataset(x, y).filter(lambda images, labels: True)
    return {"x": unknown, "shuffle": False}


def _infinite(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    steps = len(x) // _BATCH
    return {"x": _dataset(x, y).repeat(), "steps_per_epoch": steps, "shuffle": False}


def _py_dataset(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    return {"x": _Sequence(x, y), "shuffle": False}


def _batches(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[Any, Any]]:
    while True:
        yield from _Sequence(x, y)


def _generator(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    steps = len(x) // _BATCH
    return {"x": _batches(x, y), "steps_per_epoch": steps, "shuffle": False}


def _split(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """The same training images, followed by four more for validation."""
    x, y = np.concatenate([x, x[:_BATCH]]), np.concatenate([y, y[:_BATCH]])
    return {**_arrays(x, y), "validation_split": 0.25}


DATA = [
    DataForm("arrays", _arrays),
    DataForm("lists_of_one", _lists_of_one),
    DataForm("tensors", _tensors),
    DataForm("dataset", _known),
    DataForm("dataset_of_unknown_size", _unknown),
    DataForm("infinite_dataset", _infinite),
    DataForm("py_dataset", _py_dataset),
    DataForm("generator", _generator),
    DataForm("validation_split", _split),
]


@dataclasses.dataclass(frozen=True)
class OptionForm:
    """Options of `compile` and of the optimizer."""

    name: str
    compiled: dict[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


OPTIONS = [
    OptionForm("jit", {"jit_compile": True}),
    OptionForm("eager", {"run_eagerly": True}),
    OptionForm("several_steps_per_execution", {"steps_per_execution": 2}),
    OptionForm("moving_average", optimizer={"use_ema": True, "ema_momentum": 0.5}),
    OptionForm("accumulation", optimizer={"gradient_accumulation_steps": 2}),
    OptionForm("clipped_norm", optimizer={"global_clipnorm": 0.1}),
    OptionForm("weight_decay", optimizer={"weight_decay": 0.01}),
]


def small_net(activation: str | None = None, units: int = _CLASSES) -> keras.Model:
    """The net for the forms of training, the same at every call."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation=activation),
        ]
    )


def small_images() -> np.ndarray:
    return images_of()

"""The forms in which users bring classifiers; every operation runs over all of them.

Each form is made twice from the same seed: as users have it, and with its logits laid
bare, which is the same function of the same weights without the head. What an operation
gives for the first must equal what it gives for the second.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

_CLASSES = 3
_COUNT = 12
# Removed when the process ends.
_FOLDER = tempfile.TemporaryDirectory()


class Brought(NamedTuple):
    """What a user brings: a net, how it is compiled, and a few images of its kind."""

    model: Any
    loss: Any
    images: np.ndarray
    labels: np.ndarray
    value_range: tuple[float, float] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class ModelForm:
    """One form: `make()` as users have it, `make(bare=True)` with logits laid bare."""

    name: str
    build: Callable[[bool], Brought]
    # "logits" are the same to rounding; "logarithm": the head cannot be undone, so the
    # logarithm of the probabilities stands in, which loses digits where they saturate.
    through: str = "logits"
    # Whether Keras itself can load what it saved.
    saves: bool = True

    def make(self, bare: bool = False) -> Brought:
        """Returns the form, with the same weights at every call."""
        keras.utils.set_random_seed(3)
        return self.build(bare)

    def __str__(self) -> str:
        return self.name


def images_of(shape: tuple[int, ...] = (8, 8, 1), high: float = 1.0) -> np.ndarray:
    """A few images, brighter where their class is, not at the ends of the range."""
    generator = np.random.default_rng(5)
    images = generator.uniform(0.1, 0.7, (_COUNT, *shape))
    for index, image in enumerate(images):
        image[:, index % _CLASSES :: _CLASSES] += 0.2
    return (high * images).astype("float32")


def labels_of(classes: int = _CLASSES) -> np.ndarray:
    return np.arange(_COUNT) % classes


def sparse_loss(from_logits: bool) -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def _maps(tensor: Any, **arguments: Any) -> Any:
    convolution = keras.layers.Conv2D(4, 3, strides=2, activation="relu", **arguments)
    return convolution(tensor)


def _features(tensor: Any, **arguments: Any) -> Any:
    return keras.layers.Flatten()(_maps(tensor, **arguments))


def _brought(model: Any, bare: bool, **more: Any) -> Brought:
    """A net of three classes with the loss that fits its head."""
    more = {"images": images_of(), "labels": labels_of(), **more}
    return Brought(model, more.pop("loss", sparse_loss(bare)), **more)


def _head_form(
    name: str, head: Callable[[Any, bool], Any], *, from_logits: bool = False
) -> ModelForm:
    """A form with the given head on the small body."""

    def build(bare: bool) -> Brought:
        inputs = keras.Input((8, 8, 1))
        model = keras.Model(inputs, head(_features(inputs), bare))
        return _brought(model, bare or from_logits)

    return ModelForm(name, build)


def _last(bare: bool, activation: str = "softmax") -> str | None:
    return None if bare else activation


# ----------------------------------------------------------------- heads


def _softmax_dense(bare: bool) -> Brought:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(_CLASSES, activation=_last(bare)),
        ]
    )
    return _brought(model, bare)


def _softmax_einsum(features: Any, bare: bool) -> Any:
    layer = keras.layers.EinsumDense("ab,bc->ac", _CLASSES, activation=_last(bare))
    return layer(features)


def _softmax_layer(features: Any, bare: bool) -> Any:
    logits = keras.layers.Dense(_CLASSES)(features)
    return logits if bare else keras.layers.Softmax()(logits)


def _softmax_activation(features: Any, bare: bool) -> Any:
    logits = keras.layers.Dense(_CLASSES)(features)
    return logits if bare else keras.layers.Activation("softmax")(logits)


def _softmax_operation(features: Any, bare: bool) -> Any:
    logits = keras.layers.Dense(_CLASSES)(features)
    return logits if bare else keras.ops.softmax(logits)


def _pooled(bare: bool) -> Brought:
    inputs = keras.Input((8, 8, 1))
    maps = keras.layers.Conv2D(_CLASSES, 1)(_maps(inputs))
    logits = keras.layers.GlobalAveragePooling2D()(maps)
    outputs = logits if bare else keras.layers.Softmax()(logits)
    return _brought(keras.Model(inputs, outputs), bare)


def _pooled_probabilities(bare: bool) -> Brought:
    """A mean of softmaxes, which removing a layer cannot undo."""
    inputs = keras.Input((8, 8, 1))
    maps = keras.layers.Conv2D(_CLASSES, 1, activation="softmax")(_maps(inputs))
    outputs = keras.layers.GlobalAveragePooling2D()(maps)
    outputs = keras.ops.log(outputs) if bare else outputs
    return _brought(keras.Model(inputs, outputs), bare)


def _log_probabilities(features: Any, bare: bool) -> Any:
    activation = _last(bare, "log_softmax")
    return keras.layers.Dense(_CLASSES, activation=activation)(features)


def _logits(features: Any, bare: bool) -> Any:
    del bare
    return keras.layers.Dense(_CLASSES)(features)


def _temperature(features: Any, bare: bool) -> Any:
    logits = keras.layers.Rescaling(0.2)(keras.layers.Dense(_CLASSES)(features))
    return logits if bare else keras.layers.Softmax()(logits)


def _nested_softmax(bare: bool) -> Brought:
    features = keras.Input((36,))
    head = keras.layers.Dense(_CLASSES, activation=_last(bare))
    inner = keras.Model(features, head(features))
    inputs = keras.Input((8, 8, 1))
    return _brought(keras.Model(inputs, inner(_features(inputs))), bare)


def _listed_outputs(bare: bool) -> Brought:
    inputs = keras.Input((8, 8, 1))
    head = keras.layers.Dense(_CLASSES, activation=_last(bare))
    outputs = head(_features(inputs))
    model = keras.Model(inputs=[inputs], outputs=[outputs])
    return _brought(model, bare)


def _laid_bare_unit(logit: Any) -> Any:
    """The two logits 0 and z that the single logit z stands for."""
    return keras.ops.concatenate([0.0 * logit, logit], axis=-1)


def _one_unit(name: str, head: Callable[[Any], Any], *, from_logits: bool) -> ModelForm:
    """A form with one output unit and the labels 0 and 1."""

    def build(bare: bool) -> Brought:
        inputs = keras.Input((8, 8, 1))
        features = _features(inputs)
        if bare:
            outputs = _laid_bare_unit(keras.layers.Dense(1)(features))
            loss = sparse_loss(True)
        else:
            outputs = head(features)
            loss = keras.losses.BinaryCrossentropy(from_logits=from_logits)
        model = keras.Model(inputs, outputs)
        return Brought(model, loss, images_of(), labels_of(2))

    return ModelForm(name, build)


def _sigmoid_unit(features: Any) -> Any:
    return keras.layers.Dense(1, activation="sigmoid")(features)


def _sigmoid_layer(features: Any) -> Any:
    return keras.layers.Activation("sigmoid")(keras.layers.Dense(1)(features))


def _one_logit(features: Any) -> Any:
    return keras.layers.Dense(1)(features)


def _two_units(bare: bool) -> Brought:
    inputs = keras.Input((8, 8, 1))
    head = keras.layers.Dense(2, activation=_last(bare))
    model = keras.Model(inputs, head(_features(inputs)))
    return _brought(model, bare, labels=labels_of(2))


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A subclassed net as in tutorials."""

    def __init__(self, activation: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation
        self.convolution = keras.layers.Conv2D(4, 3, strides=2, activation="relu")
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(_CLASSES, activation=activation)

    def call(self, inputs: Any) -> Any:
        return self.head(self.flatten(self.convolution(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}


def _subclassed_logits(bare: bool) -> Brought:
    del bare
    return _brought(Subclassed(), True)


def _subclassed_probabilities(bare: bool) -> Brought:
    return _brought(Subclassed(_last(bare)), bare)


# ---------------------------------------------------------------- bodies


def _body_form(
    name: str,
    body: Callable[[Any], Any],
    shape: tuple[int | None, ...] = (8, 8, 1),
    more: dict[str, Any] | None = None,
    **arguments: Any,
) -> ModelForm:
    """A form with the given body under the commonest head."""

    def build(bare: bool) -> Brought:
        inputs = keras.Input(shape)
        head = keras.layers.Dense(_CLASSES, activation=_last(bare))
        return _brought(keras.Model(inputs, head(body(inputs))), bare, **(more or {}))

    return ModelForm(name, build, **arguments)


def _frozen_base(inputs: Any) -> Any:
    base = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.BatchNormalization(),
        ]
    )
    base.trainable = False
    return keras.layers.Flatten()(base(inputs, training=False))


def _batch_normalization(inputs: Any) -> Any:
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    return keras.layers.Flatten()(keras.layers.ReLU()(x))


def _dropout(inputs: Any) -> Any:
    return keras.layers.Dropout(0.3)(_features(inputs))


def _augmentation(inputs: Any) -> Any:
    x = keras.layers.RandomFlip("horizontal")(inputs)
    return _features(keras.layers.RandomTranslation(0.1, 0.1)(x))


def _rescaling_255(inputs: Any) -> Any:
    return _features(keras.layers.Rescaling(1.0 / 255.0)(inputs))


def _rescaling_signed(inputs: Any) -> Any:
    return _features(keras.layers.Rescaling(2.0, offset=-1.0)(inputs))


def _normalization(inputs: Any) -> Any:
    return _features(keras.layers.Normalization(mean=[0.4], variance=[0.05])(inputs))


def _any_size(inputs: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D()(_maps(inputs))


def _no_channel_axis(inputs: Any) -> Any:
    return _features(keras.layers.Reshape((8, 8, 1))(inputs))


def _regularized(inputs: Any) -> Any:
    return _features(inputs, kernel_regularizer="l2")


def _shared_layers(inputs: Any) -> Any:
    shared = keras.layers.Dense(36, activation="relu")
    return shared(shared(_features(inputs)))


def _uint8_input(bare: bool) -> Brought:
    """A net that takes bytes, as `image_dataset_from_directory` and PNGs suggest."""
    inputs = keras.Input((8, 8, 1), dtype="float32" if bare else "uint8")
    head = keras.layers.Dense(_CLASSES, activation=_last(bare))
    model = keras.Model(inputs, head(_rescaling_255(inputs)))
    images = np.round(images_of(high=255.0))
    images = images if bare else images.astype("uint8")
    return _brought(model, bare, images=images, value_range=(0.0, 255.0))


def _of_dtype(body: Any, last: Any) -> Callable[[bool], Brought]:
    """A net whose head has another dtype policy than its other layers."""

    def build(bare: bool) -> Brought:
        inputs = keras.Input((8, 8, 1))
        flat = keras.layers.Flatten(dtype=body)(_maps(inputs, dtype=body))
        head = keras.layers.Dense(_CLASSES, activation=_last(bare), dtype=last)
        return _brought(keras.Model(inputs, head(flat)), bare)

    return build


def _int8(bare: bool) -> Brought:
    brought = _softmax_dense(bare)
    brought.model.quantize("int8")
    return brought


def _legacy(bare: bool) -> Brought:
    """A net of Keras 2, as the package tf_keras makes and loads it."""
    import tf_keras

    tf_keras.utils.set_random_seed(3)
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(_CLASSES, activation=_last(bare)),
        ]
    )
    return _brought(model, bare)


def _saved_model(bare: bool) -> Brought:
    """A SavedModel called by a layer, for a net that exists only in this form."""
    brought = _softmax_dense(bare)
    folder = f"{_FOLDER.name}/{'bare' if bare else 'softmax'}"
    brought.model.export(folder, verbose=False)
    inputs = keras.Input((8, 8, 1))
    layer = keras.layers.TFSMLayer(folder, call_endpoint="serve")
    return brought._replace(model=keras.Model(inputs, layer(inputs)))


HEADS = [
    ModelForm("softmax_dense", _softmax_dense),
    _head_form("softmax_einsum", _softmax_einsum),
    ModelForm("softmax_after_pooling", _pooled),
    ModelForm("softmax_before_pooling", _pooled_probabilities, "logarithm"),
    _head_form("softmax_layer", _softmax_layer),
    _head_form("softmax_activation", _softmax_activation),
    _head_form("softmax_operation", _softmax_operation),
    _head_form("logits", _logits, from_logits=True),
    _one_unit("sigmoid_unit", _sigmoid_unit, from_logits=False),
    _one_unit("sigmoid_layer", _sigmoid_layer, from_logits=False),
    _one_unit("one_logit", _one_logit, from_logits=True),
    ModelForm("two_units", _two_units),
    _head_form("log_probabilities", _log_probabilities, from_logits=True),
    _head_form("temperature", _temperature),
    ModelForm("nested_softmax", _nested_softmax),
    ModelForm("listed_outputs", _listed_outputs),
    ModelForm("subclassed_logits", _subclassed_logits),
    ModelForm(
        "subclassed_probabilities",
        _subclassed_probabilities,
    ),
]

BODIES = [
    _body_form("frozen_base", _frozen_base),
    _body_form("batch_normalization", _batch_normalization),
    _body_form("dropout", _dropout),
    _body_form("augmentation", _augmentation),
    _body_form(
        "rescaling_255",
        _rescaling_255,
        more={"images": images_of(high=255.0), "value_range": (0.0, 255.0)},
    ),
    _body_form("rescaling_signed", _rescaling_signed),
    _body_form("normalization", _normalization),
    _body_form(
        "any_size", _any_size, (None, None, 1), more={"images": images_of((9, 7, 1))}
    ),
    _body_form(
        "no_channel_axis", _no_channel_axis, (8, 8), more={"images": images_of((8, 8))}
    ),
    ModelForm("uint8_input", _uint8_input),
    ModelForm("float64", _of_dtype("float64", "float64")),
    ModelForm("mixed_float16", _of_dtype("mixed_float16", "float32")),
    ModelForm("int8", _int8),
    _body_form("l2_regularized", _regularized),
    _body_form("shared_layers", _shared_layers),
    ModelForm("legacy", _legacy, saves=False),
    ModelForm("saved_model", _saved_model, "logarithm", saves=False),
]

FORMS = [*HEADS, *BODIES]

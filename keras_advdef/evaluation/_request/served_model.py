"""ServedModel: a SavedModel as a function of images."""

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.fingerprint_pb2 import FingerprintDef
from tensorflow.python.eager.context import anonymous_name
from tensorflow.python.saved_model.nested_structure_coder import NotEncodableError

from keras_advdef.core.cards import cards_in
from keras_advdef.core.errors import invalid
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import scope_key
from keras_advdef.core.random_stream import reseed_after_fork
from keras_advdef.core.text import shortened
from keras_advdef.core.untrusted import (
    check_memory,
    check_regular_file,
    open_regular_file,
    read_errors_as,
)

_SIGNATURE = "serving_default"
# Subfolders of a SavedModel.
_PARTS = ("variables", "assets", "assets.extra")
_FINGERPRINT = "fingerprint.pb"
_STATE = "random_state"
# The state of Keras's own random layers, such as augmentation and dropout.
_KERAS_STATE = "seed_generator_state"
_LONGEST_NAMES = 200
_SAID = "TensorFlow says: {}."
# Only rows and columns.
_MAP_RANK = 2
_RULE = "a SavedModel with one image input and one output"


class ServedModel:
    """Calls the serving signature of a SavedModel.

    A SavedModel is a program with all rights of the user who loads it: load only those
    that you trust.

    Gradients flow through it if TensorFlow saved those of its operations. Inside a
    `draw_scope` the random defences of this package draw from the scope, and leave
    their own streams unchanged; XLA cannot compile such a call. Other random layers
    are not controlled. If these are augmentation, meant for training only, a warning
    says so.

    Args:
        folder: Folder of the SavedModel.

    Raises:
        ValueError: If there is none, if it has no such signature, or if it fails.

    Example:

    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> model.export(folder, verbose=False)
    >>> from keras_advdef.evaluation._request.served_model import ServedModel
    >>> ServedModel(folder)(tf.zeros((3, 2, 2, 1))).shape
    TensorShape([3, 4])
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._check_files()
        self.cards = cards_in(folder)
        self._function = self._signature()
        with read_errors_as(self._refusal, _SAID):
            inputs = dict(self._function.structured_input_signature[1])
            outputs = dict(self._function.structured_outputs)
        if len(inputs) != 1 or len(outputs) != 1:
            advice = f"It has {len(inputs)} inputs and {len(outputs)} outputs."
            raise self._refusal(advice)
        ((self._input, spec),) = inputs.items()
        (self._output,) = outputs
        if not isinstance(spec, tf.TensorSpec):
            raise self._refusal(f"It takes a {type(spec).__name__}.")
        self._dtype = spec.dtype
        self.image_dtype = spec.dtype.name
        known = spec.shape.rank is not None
        shape = tuple(spec.shape[1:]) if known else ()
        self._takes_maps = len(shape) == _MAP_RANK
        # A model of images without channels is still given an axis of channels.
        self.image_shape = (*shape, 1) if self._takes_maps else shape
        self._check_input(spec)
        self._states = [
            variable
            for variable in getattr(self._loaded, "variables", [])
            if _is_state(variable)
        ]
        for state in self._states:
            reseed_after_fork(state)
        self._try()
        if self.augments:
            warnings.warn(_augmenting(self.folder), stacklevel=2)

    @property
    def augments(self) -> bool:
        """Whether random layers of Keras draw at every call."""
        used = self._function.variables
        return any(_KERAS_STATE in variable.name for variable in used)

    def _signature(self) -> Any:
        """Loads the SavedModel and returns its serving signature."""
        with read_errors_as(self._refusal, _SAID, also=(NotEncodableError,)):
            self._loaded = tf.saved_model.load(str(self.folder))
            signatures = dict(self._loaded.signatures)
        if _SIGNATURE not in signatures:
            held = shortened(", ".join(signatures) or "none", _LONGEST_NAMES)
            advice = f"Its signatures: {held}. Write it with `model.export`."
            raise self._refusal(advice)
        return signatures[_SIGNATURE]

    def _check_files(self) -> None:
        """Raises if TensorFlow would wait for a pipe or read a device."""
        for folder in (self.folder, *(self.folder / name for name in _PARTS)):
            if folder.is_dir():
                for path in sorted(folder.iterdir()):
                    if not path.is_dir():
                        check_regular_file(path, self._refusal)
        if (self.folder / _FINGERPRINT).exists():
            # TensorFlow would continue without it, and print a traceback.
            with (
                open_regular_file(self.folder / _FINGERPRINT, self._refusal) as file,
                read_errors_as(self._refusal, f"{_FINGERPRINT} is damaged ({{}})."),
            ):
                FingerprintDef.FromString(file.read())

    def _check_input(self, spec: tf.TensorSpec) -> None:
        if not spec.dtype.is_floating and not spec.dtype.is_integer:
            raise self._refusal(f"It takes {spec.dtype.name}.")
        count = spec.shape[0] if spec.shape.rank else None
        if count is not None:
            advice = f"It takes {count} images at a time; export it for any number."
            raise self._refusal(advice)
        if spec.dtype.is_integer:
            warnings.warn(
                f"The SavedModel in {self.folder} takes {spec.dtype.name}, which cuts "
                "off the fractions of adversarial images and passes no gradient: it "
                "looks more robust than it is. Export it for floats.",
                stacklevel=2,
            )

    def _try(self) -> None:
        """Calls the model once, as a damaged graph may load but not run."""
        if self.image_shape and None not in self.image_shape:
            needed = self._dtype.size * math.prod(self.image_shape)
            check_memory(needed, "One image", self._refusal)
            with read_errors_as(self._refusal, _SAID):
                self(tf.zeros((1, *self.image_shape)))

    def _refusal(self, advice: str) -> ValueError:
        return invalid("ServedModel", "folder", _RULE, str(self.folder), advice=advice)

    def __call__(self, images: tf.Tensor) -> Any:
        """Returns the SavedModel's outputs for images in its own value range."""
        images = images[..., 0] if self._takes_maps else images
        given = {self._input: tf.cast(images, self._dtype)}
        key = scope_key()
        if key is None:
            return self._function(**given)[self._output]
        with self._drawing_from(key) as function:
            return function(**given)[self._output]

    @contextlib.contextmanager
    def _drawing_from(self, key: tf.Tensor) -> Iterator[Any]:
        """Yields the function with random states that only this call sees.

        The SavedModel's own states stay unchanged.
        """
        own = {}
        for index, state in enumerate(self._states):
            words = fold_in(key, index)
            # An export of version 0.1 has no counter.
            counter = tf.zeros([state.shape[0] - 2], tf.int64)
            with tf.device(state.device):
                own[id(state.handle)] = handle = tf.raw_ops.VarHandleOp(
                    dtype=tf.int64, shape=state.shape, shared_name=anonymous_name()
                )
                value = tf.concat([counter, words], axis=0)
                tf.raw_ops.AssignVariableOp(resource=handle, value=value)
        function = copy.copy(self._function)
        captured = function.captured_inputs
        function.set_external_captures([own.get(id(each), each) for each in captured])
        try:
            yield function
        finally:
            for handle in own.values():
                tf.raw_ops.DestroyResourceOp(resource=handle)

    def weights(self) -> list[tf.Variable]:
        """Returns the variables, for a fingerprint."""
        return list(getattr(self._loaded, "variables", []))


def _is_state(variable: tf.Variable) -> bool:
    """Whether a random layer of this package draws from a variable."""
    is_ours = variable.dtype == tf.int64 and variable.shape.rank == 1
    return is_ours and variable.name.partition(":")[0].endswith(_STATE)


def _augmenting(folder: Path) -> str:
    return (
        f"The SavedModel in {folder} augments its images: Keras layers that are meant "
        "for training draw at every call, so its predictions differ from `predict`. "
        "Export it with training=False, as `keras_advdef.models.export_model` does."
    )

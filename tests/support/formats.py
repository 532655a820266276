"""Exported models as functions from images to their outputs, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

_FILES = {"tf_saved_model": "served", "onnx": "model.onnx", "litert": "model.tflite"}
FORMATS = tuple(_FILES)

# Side effects of Keras and the converters.
quiet_converters = pytest.mark.filterwarnings(
    "ignore:In the future `np.object`:FutureWarning",
    "ignore:.*tf.lite.Interpreter is deprecated:UserWarning",
)


def exported(
    model: Any, format: str, folder: Path, **arguments: Any
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Writes a model with its own `export`, and returns a function that serves it.

    A test that needs the converter to ONNX is skipped where it is not installed.
    """
    if format == "onnx":
        pytest.importorskip("tf2onnx", reason="the extra `onnx` is missing")
    path = folder / _FILES[format]
    model.export(path, format=format, verbose=False, **arguments)
    return {"tf_saved_model": _saved, "onnx": _onnx, "litert": _litert}[format](path)


def is_written(folder: Path) -> bool:
    """Whether an export wrote anything."""
    return any(folder.iterdir())


def _saved(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    return lambda images: {
        output: found.numpy()
        for output, found in serve(**{name: tf.constant(images)}).items()
    }


def _onnx(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {given.name: images}), strict=True))

    return run


def _litert(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda images: runner(**{name: images})


def assert_serves(found: dict[str, np.ndarray], expected: Any, tolerance: float):
    """Asserts that the outputs equal those of `predict`, also in a dictionary."""
    if not isinstance(expected, dict):
        (name,) = found
        expected = {name: expected}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=0, atol=tolerance, err_msg=name
        )

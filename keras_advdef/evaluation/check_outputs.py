"""Whether what the models of an evaluation return can be worked with."""

from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.logits import LogitsModel
from keras_advdef.evaluation.judge import Judge
from keras_advdef.evaluation.request import OWNER, Request


def check_outputs(request: Request, logits: np.ndarray) -> None:
    """Raises before the first attack if a model would fail or mislead later.

    Args:
        request: The checked arguments.
        logits: What the evaluated model gave for the first image, `(1, classes)`.

    Raises:
        ValueError: If the model gives NaN or infinity for the first image, the
            reference or the surrogate for any, or one of the latter two knows another
            number of classes.
    """
    check_finite("model", request.subject.model, logits)
    classes = _classes(request.subject.model, logits)
    for name in ("reference", "surrogate"):
        companion = getattr(request, name)
        if companion is None:
            continue
        judge = Judge(
            companion.model, value_range=request.value_range, batch_size=request.size
        )
        found = judge.logits(request.images, 0)
        known = _classes(companion.model, found)
        if known != classes:
            rule = f"a model with {classes} classes, as the evaluated one"
            value = f"one with {known}"
            raise invalid(OWNER, name, rule, value)
        check_finite(name, companion.model, found)


def _classes(model: Any, logits: np.ndarray) -> int:
    """Returns the number of classes, without the one that stands for "adversarial"."""
    rejects = isinstance(model, LogitsModel) and model.rejects
    return logits.shape[1] - int(rejects)


def check_finite(name: str, model: Any, logits: np.ndarray) -> None:
    """Raises if a model gives NaN or infinity for a clean image.

    Args:
        name: The argument that the model was passed as.
        model: The model.
        logits: What it gave for the images, `(count, classes)`.

    Raises:
        ValueError: If a value is not finite.
    """
    finite = np.isfinite(logits).all(axis=-1)
    if not finite.all():
        rule = "a model with finite logits"
        advice = f"It gives NaN or infinity for image {np.argmin(finite)}, counted "
        advice += "from 0; train it again, or look at that image."
        raise invalid(OWNER, name, rule, model, advice=advice)

"""Whether what the models of an evaluation return can be worked with."""

from typing import Any

import numpy as np

from keras_advdef.core.answers import check_finite
from keras_advdef.core.errors import invalid
from keras_advdef.core.logits import LogitsModel
from keras_advdef.evaluation._request.request import OWNER, Request
from keras_advdef.evaluation._run.judge import Judge


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
    is_finite = np.isfinite(logits).all(axis=1)
    check_finite(OWNER, "model", request.subject.model, is_finite)
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
        is_finite = np.isfinite(found).all(axis=1)
        check_finite(OWNER, name, companion.model, is_finite)


def _classes(model: Any, logits: np.ndarray) -> int:
    """Returns the number of classes, without the one that stands for "adversarial"."""
    rejects = isinstance(model, LogitsModel) and model.rejects
    return logits.shape[1] - int(rejects)

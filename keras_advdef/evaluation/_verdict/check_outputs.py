"""Checks the outputs of the models that take part in an evaluation."""

from typing import Any

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.core.logits import LogitsModel
from keras_advdef.core.predictions import check_finite_logits
from keras_advdef.evaluation._request.request import OWNER, Request
from keras_advdef.evaluation._run.judge import Judge


def check_outputs(request: Request, logits: np.ndarray) -> None:
    """Raises if a model would fail later, or give misleading numbers.

    Args:
        request: The checked arguments.
        logits: The evaluated model's logits for the first image, `(1, classes)`.

    Raises:
        ValueError: If the model returns NaN or infinity for the first image, if the
            reference or the surrogate does so for any image, or if either of these two
            has a different number of classes.
    """
    is_finite = np.isfinite(logits).all(axis=1)
    check_finite_logits(OWNER, "model", request.evaluated.model, is_finite)
    classes = _classes(request.evaluated.model, logits)
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
            rule = f"a model with {classes} classes, like the evaluated model"
            value = f"a model with {known}"
            raise invalid(OWNER, name, rule, value)
        is_finite = np.isfinite(found).all(axis=1)
        check_finite_logits(OWNER, name, companion.model, is_finite)


def _classes(model: Any, logits: np.ndarray) -> int:
    """Returns the number of classes, not counting a class for "adversarial"."""
    rejects = isinstance(model, LogitsModel) and model.rejects
    return logits.shape[1] - int(rejects)

"""Whether the reference and the surrogate can stand beside the evaluated model."""

import numpy as np

from keras_advdef.core.errors import invalid
from keras_advdef.evaluation.judge import Judge
from keras_advdef.evaluation.request import OWNER, Request


def check_companions(request: Request, *, classes: int) -> None:
    """Raises before the first attack if a companion would fail or mislead later.

    Args:
        request: The checked arguments.
        classes: Number of logits of the evaluated model.

    Raises:
        ValueError: If the reference or the surrogate knows another number of classes,
            or gives NaN or infinity for one of the first images.
    """
    for name in ("reference", "surrogate"):
        companion = getattr(request, name)
        if companion is None:
            continue
        judge = Judge(
            companion.model, value_range=request.value_range, batch_size=request.size
        )
        logits = judge.logits(request.images[: request.size], 0)
        if logits.shape[1] != classes:
            rule = f"a model with {classes} classes, as the evaluated one"
            value = f"one with {logits.shape[1]}"
            raise invalid(OWNER, name, rule, value)
        if not np.isfinite(logits).all():
            rule = "a model of finite outputs"
            advice = "It gives NaN or infinity; train it again."
            raise invalid(OWNER, name, rule, companion.model, advice=advice)

"""misleading_layers: the operations of a model whose gradients are false."""

import keras
import tensorflow as tf

from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.evaluation._plan.offending_operations import misleading_operations
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._request.request import Request

_LOOKED_AT = 16


def misleading_layers(
    request: Request, probed: ProbeResult
) -> tuple[keras.Operation, ...]:
    """Returns the layers and operations that BPDA can replace by the identity.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
    """
    view, pixels = probed.adaptive, request.value_range
    logits_fn = LogitsFunction(view, value_range=pixels)
    images = pixels.to_unit(tf.constant(request.images[:_LOOKED_AT], tf.float32))

    def run() -> None:
        with draw_scope(make_key(request.seed)):
            logits_fn(images)

    return tuple(misleading_operations(view.model, run))

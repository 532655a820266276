"""Measures the survey's four requirements for a defence."""

import math
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.cards import card_of
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.random_numbers import make_key
from keras_advdef.evaluation._measure.robustness_curve import RobustnessCurve
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
)
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation.accuracy_estimate import paired_difference

_ROUNDS = 7


def architecture_change(model: Any, reference: Any) -> dict[str, Any]:
    """Returns the layers and parameters that a defence added, `None` if unknown.

    Without a reference, these are the model's layers of this package with a card.

    Args:
        model: The evaluated model.
        reference: The undefended model or `None`.
    """
    if not isinstance(model, keras.Model):
        return {"layers_added": None, "parameters_added": None}
    if isinstance(reference, keras.Model):
        layers = len(_leaves(model)) - len(_leaves(reference))
        return {
            "layers_added": layers,
            "parameters_added": parameter_count(model) - parameter_count(reference),
        }
    added = [
        layer
        for layer in flat_layers(model)
        if card_of(layer) is not None and not isinstance(layer, keras.Model)
    ]
    return {
        "layers_added": len(added),
        "parameters_added": sum(parameter_count(layer) for layer in added),
    }


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer
        for layer in flat_layers(model)
        if len(flat_layers(layer)) == 1
        and not isinstance(layer, keras.layers.InputLayer)
    ]


def parameter_count(layer: keras.layers.Layer) -> int:
    """Returns the number of parameters of a layer or model, without random states.

    Args:
        layer: A layer or model that is built.
    """
    # The state of a random stream is not a parameter.
    weights = [w for w in layer.weights if "random_state" not in w.name]
    return sum(math.prod(weight.shape) for weight in weights)


def measure_defence_costs(
    request: Request,
    *,
    labels: np.ndarray,
    correct: np.ndarray,
    curve: RobustnessCurve,
    smallest: SmallestPerturbations | None,
) -> dict[str, Any]:
    """Returns the requirements as JSON values; `inference_time` measures the time.

    Args:
        request: The checked arguments.
        labels: Integer labels.
        correct: Which clean images the model classifies correctly.
        curve: Accuracies against epsilon.
        smallest: The smallest perturbations, or `None`.
    """
    reference = request.reference and request.reference.model
    change = None
    if reference is not None:
        judge = Judge(
            reference, value_range=request.value_range, batch_size=request.size
        )
        logits = judge.logits(request.images, request.seed)
        difference, interval = paired_difference(
            correct, logits.argmax(axis=-1) == labels
        )
        change = {
            "difference": difference,
            "interval": list(interval),
            "interval_method": "agresti-min",
        }
    small = [
        {"epsilon": epsilon, **estimate.to_json()}
        for epsilon, estimate in zip(curve.epsilons, curve.estimates, strict=True)
        if 0.0 < epsilon < request.epsilon
    ]
    return {
        "architecture": architecture_change(request.evaluated.model, reference),
        "clean_accuracy_change": change,
        "small_epsilons": small,
        "smallest_perturbation": smallest
        and {
            "median": smallest.median,
            "count": len(smallest.rows),
            "attack": smallest.attack,
        },
    }


def inference_time(request: Request) -> dict[str, float]:
    """Returns the seconds per batch, and the ratio to the reference if there is one.

    The models take turns, so that a busy machine slows both; the fastest turn counts.

    Args:
        request: The checked arguments.
    """
    models = {"seconds": request.evaluated.model}
    if request.reference is not None:
        models["reference"] = request.reference.model
    batch = tf.constant(request.images[: request.size].astype(np.float32))
    judges = {
        name: Judge(model, value_range=request.value_range, batch_size=request.size)
        for name, model in models.items()
    }
    least = dict.fromkeys(judges, math.inf)
    for turn in range(_ROUNDS + 1):
        for name, judge in judges.items():
            judge.logits_fn.build(tuple(batch.shape[1:]))
            started = time.perf_counter()
            judge.run(batch, make_key(turn)).numpy()
            # The first turn traces.
            if turn:
                least[name] = min(least[name], time.perf_counter() - started)
    found = {"seconds_per_batch": least["seconds"], "batch": len(batch)}
    if "reference" in least:
        found["inference_time_ratio"] = least["seconds"] / least["reference"]
    return found

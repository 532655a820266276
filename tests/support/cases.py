"""One entry per way in which a public class is put through its contract."""

import numpy as np
import tensorflow as tf

import keras_advdef as advdef
from tests.support.generators import small_generator

LAYERS = [
    (advdef.layers.BitDepthReduction, {"bits": 3}),
    (advdef.layers.RandomResizePad, {"output_size": 10, "min_size": 7}),
    (
        advdef.layers.RandomResizePad,
        {"output_size": 9, "method": "nearest", "padding_value": 0.5},
    ),
    (advdef.layers.RandomNoise, {"stddev": 0.1}),
    (advdef.layers.RandomNoise, {"stddev": 0.1, "generator": "philox"}),
    (advdef.layers.StochasticActivationPruning, {"fraction": 2.0}),
    (
        advdef.layers.StochasticActivationPruning,
        {"fraction": 2.0, "sampling": "bernoulli"},
    ),
    # Draws that a batch shares, those of "reparameterization", are another contract.
    (
        advdef.layers.VariationalDense,
        {"units": 1, "estimator": "flipout", "kl_weight": 0.25},
    ),
    (
        advdef.layers.VariationalConv2D,
        {
            "filters": 1,
            "kernel_size": (3, 3),
            "padding": "same",
            "estimator": "local_reparameterization",
            "variational_bias": True,
            "kl_weight": 0.25,
        },
    ),
    (
        advdef.layers.VariationalDepthwiseConv2D,
        {"kernel_size": (3, 3), "estimator": "flipout", "kl_weight": 0.25},
    ),
    (advdef.layers.JPEGCompression, {"quality": 75}),
    (
        advdef.layers.JPEGCompression,
        {"quality": (20, 90), "subsampling": "4:4:4", "gradient": "soft"},
    ),
    (advdef.layers.MedianSmoothing, {"size": 2}),
    (advdef.layers.MedianSmoothing, {"size": 3}),
    (advdef.layers.NonLocalMeans, {"strength": 0.1}),
    (advdef.layers.TotalVariationMinimization, {"steps": 50}),
    (
        advdef.layers.TotalVariationMinimization,
        {"keep_probability": 1.0, "weight": 0.1},
    ),
    (
        advdef.layers.GenerativeProjection,
        {"steps": 10, "restarts": 3, "learning_rate": 1.0},
    ),
    (
        advdef.layers.GenerativeProjection,
        {"steps": 4, "restarts": 2, "learning_rate": 2.0, "gradient": "unrolled"},
    ),
    (advdef.layers.ImageQuilting, {"patch_size": 3, "overlap": 1, "neighbors": 4}),
]

ATTACKS = [
    (advdef.attacks.FGSM, {"epsilon": 0.1}),
    (advdef.attacks.FGSM, {"epsilon": 0.1, "random_start": True, "step_size": 0.125}),
    (advdef.attacks.PGD, {"epsilon": 0.1, "steps": 3}),
    (advdef.attacks.PGD, {"epsilon": 0.5, "norm": "l2", "steps": 11, "restarts": 2}),
    (advdef.attacks.PGD, {"epsilon": 2.0, "norm": "l1", "steps": 3}),
    (advdef.attacks.PGD, {"epsilon": 0.1, "steps": 3, "momentum": 1.0}),
    (advdef.attacks.PGD, {"epsilon": 0.1, "steps": 2, "loss": "margin"}),
    (
        advdef.attacks.PGD,
        {"epsilon": 0.1, "steps": 2, "loss": "kl", "random_start": "gaussian"},
    ),
    (
        advdef.attacks.PGD,
        {"epsilon": 0.1, "steps": 2, "eot_samples": 2, "random_start": "surface"},
    ),
    (advdef.attacks.PGD, {"epsilon": 0.1, "steps": 2, "return_best": False}),
    (advdef.attacks.APGD, {"epsilon": 0.1, "steps": 12}),
    (advdef.attacks.APGD, {"epsilon": 0.5, "norm": "l2", "steps": 12, "loss": "dlr"}),
    (advdef.attacks.APGD, {"epsilon": 3.0, "norm": "l1", "steps": 12}),
    (advdef.attacks.Square, {"epsilon": 0.1, "queries": 20}),
    (advdef.attacks.Square, {"epsilon": 1.0, "norm": "l2", "queries": 20}),
    (advdef.attacks.SPSA, {"epsilon": 0.1, "steps": 2, "samples": 8}),
    (advdef.attacks.DeepFool, {"epsilon": 3.0, "steps": 5}),
    (advdef.attacks.DeepFool, {"epsilon": 0.4, "norm": "linf", "steps": 5}),
    (
        advdef.attacks.CarliniWagner,
        {
            "epsilon": 3.0,
            "steps": 20,
            "binary_search_steps": 2,
            "learning_rate": 0.1,
            "initial_constant": 1.0,
        },
    ),
    (advdef.attacks.FAB, {"epsilon": 0.4, "steps": 5}),
    (
        advdef.attacks.FAB,
        {"epsilon": 3.0, "norm": "l2", "steps": 5, "target_classes": 2},
    ),
    (advdef.attacks.FAB, {"epsilon": 15.0, "norm": "l1", "steps": 5}),
    (advdef.attacks.JSMA, {"epsilon": 40, "theta": 1.0, "gamma": 0.5}),
    (advdef.attacks.AutoAttack, {"epsilon": 0.1, "steps": 4, "queries": 5}),
    (
        advdef.attacks.HopSkipJump,
        {"epsilon": 3.0, "steps": 2, "initial_evaluations": 10},
    ),
    (
        advdef.attacks.HopSkipJump,
        {"epsilon": 0.5, "norm": "linf", "steps": 2, "initial_evaluations": 10},
    ),
    (
        advdef.attacks.BoundaryAttack,
        {"epsilon": 6.0, "steps": 20, "spherical_step": 0.1, "source_step": 0.1},
    ),
]

OBJECTIVES = [
    (advdef.objectives.CrossEntropy, {}),
    (advdef.objectives.AdversarialCrossEntropy, {}),
    (advdef.objectives.AdversarialCrossEntropy, {"clean_weight": 0.5}),
    (advdef.objectives.AdaptiveDiversityPromoting, {"entropy_weight": 1.0}),
]

# Bases are tested through their subclasses, `Transfer` through the attack it runs, and
# the layers of Parseval networks, which draw nothing and are no input transformations,
# by themselves.
ABSTRACT = {
    advdef.attacks.Attack,
    advdef.attacks.losses.AttackLoss,
    advdef.attacks.GradientAttack,
    advdef.attacks.losses.LogitsLoss,
    advdef.attacks.MinimalAttack,
    advdef.attacks.SteppedAttack,
    advdef.attacks.Transfer,
    advdef.layers.ConvexCombination,
    advdef.layers.InputTransform,
    advdef.layers.ParsevalConv2D,
    advdef.layers.VariationalLayer,
    advdef.objectives.Objective,
    advdef.objectives.Penalty,
}


def made(cls, arguments, images, **more):
    """Returns a layer, with a generator or adapted to the images if it needs that."""
    if cls is advdef.layers.GenerativeProjection:
        more["generator"] = small_generator(images.shape[1:])
    layer = cls(**arguments, **more)
    if isinstance(layer, advdef.layers.ImageQuilting):
        layer.adapt(np.asarray(images, "float32"))
    if isinstance(layer, advdef.layers.VariationalLayer):
        # Two layers that share a seed shall differ in nothing.
        layer.build(images.shape)
        layer.kernel.assign(tf.ones_like(layer.kernel))
    return layer


def case_id(value) -> str:
    """A readable pytest id for a class or its arguments."""
    if isinstance(value, type):
        return value.__name__
    # The name of a function, whose `repr` differs between the workers.
    shown = {name: getattr(item, "__name__", item) for name, item in value.items()}
    return ",".join(f"{name}={item}" for name, item in shown.items())

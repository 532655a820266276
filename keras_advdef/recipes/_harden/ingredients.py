"""What a recipe is made of: attack, objective, optimizer, loss."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks import FGSM, NFGSM, PGD, Attack
from keras_advdef.core.keras_training import compiled_loss, compiled_metrics
from keras_advdef.core.logits import classifier_logits
from keras_advdef.core.model_inputs import call_classifier
from keras_advdef.core.precision import check_bfloat16
from keras_advdef.core.softmax_head import single_output
from keras_advdef.objectives import (
    TRADES,
    AdversarialCrossEntropy,
    IntervalBounds,
    Objective,
)
from keras_advdef.recipes._harden.choices import Choices, is_large
from keras_advdef.recipes._harden.plan import Plan
from keras_advdef.recipes._harden.request import Request
from keras_advdef.recipes._harden.training_data import LabelledArrays
from keras_advdef.training import AdversarialTrainingModel

_STEPS = 7
_SELECTION_STEPS = 10
# Madry's step on CIFAR-10: 2/255 at 8/255.
_STEP_SHARE = 0.25
_FAST_STEP = 1.25
_BEYOND = 1.1
_TRADES_PERTURBATION = 0.005
_MOMENTUM = 0.9
_WARM_UP_SHARE = 0.3
# Keras decays weights beside the gradient: momentum does not add up what it takes, as
# it does with a penalty; and Adam's steps are a hundredth of SGD's.
_SGD_DECAY, _ADAM_DECAY = 1.0 / (1.0 - _MOMENTUM), 100.0
_EXAMPLES = 16


def crafting(request: Request, precision: str) -> Attack:
    """Returns the attack of a training step.

    Args:
        request: What was asked for.
        precision: "float32" or "bfloat16".
    """
    shared: dict[str, Any] = {
        "value_range": request.value_range,
        "precision": precision,
    }
    epsilon = request.epsilon
    if request.recipe != "fast":
        return PGD(
            epsilon,
            steps=_STEPS,
            step_size=_STEP_SHARE * epsilon,
            norm=request.norm,
            return_best=False,
            **shared,
        )
    if request.norm == "linf" and not is_large(request):
        return NFGSM(epsilon, **shared)
    return FGSM(
        epsilon,
        random_start="unclipped" if is_large(request) else True,
        step_size=_FAST_STEP * epsilon,
        norm=request.norm,
        **shared,
    )


def selecting(request: Request, precision: str) -> Attack:
    """Returns the attack by which epochs are compared.

    Args:
        request: What was asked for.
        precision: "float32" or "bfloat16".
    """
    return PGD(
        request.epsilon,
        steps=_SELECTION_STEPS,
        norm=request.norm,
        value_range=request.value_range,
        precision=precision,
    )


def objective_of(request: Request) -> Objective:
    """Returns what a training step minimises.

    Args:
        request: What was asked for.
    """
    if request.is_certified:
        pixels = request.value_range
        return IntervalBounds(
            # A little more than is certified, as in the paper.
            epsilon=_BEYOND * request.epsilon,
            value_range=(pixels.low, pixels.high),
        )
    is_trades = request.recipe.startswith("trades")
    return TRADES() if is_trades else AdversarialCrossEntropy()


def trainer(request: Request, precision: str) -> AdversarialTrainingModel:
    """Returns the training model around the user's classifier, not compiled yet.

    Args:
        request: What was asked for.
        precision: Of the attacks.
    """
    is_perturbed = request.recipe == "trades_awp"
    with request.model.distribute_strategy.scope():
        return AdversarialTrainingModel(
            request.model,
            None if request.is_certified else crafting(request, precision),
            objective_of(request),
            validation_attack=selecting(request, precision),
            weight_perturbation=_TRADES_PERTURBATION if is_perturbed else 0.0,
            seed=request.seed,
        )


def can_craft_in_bfloat16(model: keras.Model) -> bool:
    """Returns whether attacks on a model can run in bfloat16.

    Args:
        model: The classifier.
    """
    try:
        check_bfloat16(model)
    except ValueError:
        return False
    return True


def optimizer_of(request: Request, choices: Choices) -> keras.optimizers.Optimizer:
    """Returns the optimizer; `OptimizerSchedule` moves its rate.

    With batch normalization it is SGD with Nesterov momentum, as in the papers; without
    it, Adam, which needs no rate made to measure.

    Args:
        request: What was asked for.
        choices: What was chosen.
    """
    shared: dict[str, Any] = {}
    if request.averaging > 0.0:
        shared = {"use_ema": True, "ema_momentum": request.averaging}
    decay = request.weight_decay
    if choices.normalizes:
        optimizer = keras.optimizers.SGD(
            choices.rate,
            momentum=_MOMENTUM,
            nesterov=True,
            weight_decay=decay * _SGD_DECAY or None,
            **shared,
        )
    else:
        optimizer = keras.optimizers.Adam(
            choices.rate, weight_decay=decay * _ADAM_DECAY or None, **shared
        )
    if request.averaging > 0.0:
        # A variable, which the schedule can change without another trace.
        optimizer.ema_momentum = tf.Variable(request.averaging, trainable=False)
    small = [each for each in request.model.trainable_weights if len(each.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=small)
    return optimizer


class OptimizerSchedule(keras.callbacks.Callback):
    """Moves the learning rate, and how much the average of the weights remembers.

    The rate rises, then falls to zero along a cosine. The average forgets its first
    weights quickly, and later ones as slowly as it was asked to. The optimizer counts
    the steps, so a resumed run continues where it stopped.

    Args:
        peak: Largest rate.
        steps: Steps of an epoch.
        plan: How many epochs there are, which may change.
        averaging: Share of the old average that later steps keep; 0 for no average.
    """

    def __init__(
        self, peak: float, *, steps: int, plan: Plan, averaging: float
    ) -> None:
        super().__init__()
        self._peak, self._steps, self._plan = peak, steps, plan
        self._averaging = averaging

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets how long the rate rises and falls."""
        steps = self._plan.epochs * self._steps
        warm_up = max(1, int(_WARM_UP_SHARE * steps))
        self._rate = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm_up), warmup_target=self._peak, warmup_steps=warm_up
        )

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets the numbers of the step."""
        optimizer = self.model.optimizer
        step = int(optimizer.iterations.numpy())
        # The first step is not wasted on a rate of zero.
        optimizer.learning_rate = self._rate(step + 1)
        if self._averaging > 0.0:
            share = min(self._averaging, (1.0 + step) / (10.0 + step))
            optimizer.ema_momentum.assign(share)


def compiled(
    model: AdversarialTrainingModel,
    optimizer: keras.optimizers.Optimizer,
    examples: LabelledArrays,
) -> None:
    """Compiles a training model with the classifier's own loss and metrics, if any.

    Args:
        model: The training model.
        optimizer: Its optimizer.
        examples: Training images.
    """
    classifier = model.classifier
    loss, metrics = None, None
    if classifier.compiled:
        loss, metrics = compiled_loss(classifier), compiled_metrics(classifier)
        if isinstance(metrics, dict) and len(metrics) == 1:
            # Named after an output, which has another name in the training model.
            (metrics,) = metrics.values()
    with model.distribute_strategy.scope():
        model.compile(
            optimizer,
            fitting_loss(classifier, examples) if loss is None else loss,
            metrics=["accuracy"] if metrics is None else metrics,
        )


def fitting_loss(model: keras.Model, examples: LabelledArrays) -> keras.losses.Loss:
    """Returns the cross-entropy that fits a classifier's head and the labels.

    Args:
        model: The classifier.
        examples: Images and labels.
    """
    images = examples.images[:_EXAMPLES].astype(np.float32)
    outputs = np.asarray(
        single_output("harden", call_classifier(model, images, training=False)),
        np.float32,
    )
    logits = classifier_logits(model, images).numpy()
    if outputs.shape[-1] == 1:
        bare = np.allclose(outputs, logits[:, 1:] - logits[:, :1], atol=1e-4)
        return keras.losses.BinaryCrossentropy(from_logits=bare)
    bare = np.allclose(outputs, logits, atol=1e-4)
    labels = examples.labels
    if labels.ndim == 2 and labels.shape[1] > 1:
        return keras.losses.CategoricalCrossentropy(from_logits=bare)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=bare)

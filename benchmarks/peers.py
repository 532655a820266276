"""Attacks of other libraries, as far as those are installed."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

# A library's attack on one network, as a function of images and labels.
Craft = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Budget(NamedTuple):
    """Epsilon, step size and steps of an attack in the linf ball."""

    epsilon: float
    step_size: float
    steps: int


def is_installed(package: str) -> bool:
    """Returns whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def set_torch_threads(threads: int) -> None:
    """Gives PyTorch as many threads as TensorFlow has; 0 for all cores."""
    if is_installed("torch"):
        import torch

        torch.set_num_threads(threads or os.cpu_count() or 1)


def foolbox_attack(model: keras.Model, name: str, **options: Any) -> Craft:
    """Returns an attack of Foolbox, unbounded or within `epsilon`.

    Args:
        model: The attacked model.
        name: Name of the class in `foolbox.attacks`.
        options: Arguments of the class, and `epsilon`.
    """
    import foolbox

    epsilon = options.pop("epsilon", None)
    attack = getattr(foolbox.attacks, name)(**options)
    attacked = foolbox.TensorFlowModel(model, bounds=(0, 1))

    def craft(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        inputs = tf.constant(images), tf.constant(labels)
        return attack(attacked, *inputs, epsilons=epsilon)[1].numpy()

    return craft


def art_pgd(model: keras.Model, budget: Budget) -> Craft:
    """Returns the PGD of ART for TensorFlow."""
    from art.attacks.evasion import ProjectedGradientDescentTensorFlowV2
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model,
        nb_classes=model.output_shape[-1],
        input_shape=model.input_shape[1:],
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0, 1),
    )

    def craft(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        attack = ProjectedGradientDescentTensorFlowV2(
            classifier,
            eps=budget.epsilon,
            eps_step=budget.step_size,
            max_iter=budget.steps,
            num_random_init=1,
            batch_size=len(images),
            verbose=False,
        )
        return attack.generate(images, labels)

    return craft


def cleverhans_pgd(model: keras.Model, budget: Budget) -> Craft:
    """Returns the PGD of CleverHans for TensorFlow 2."""
    from cleverhans.tf2.attacks.projected_gradient_descent import (
        projected_gradient_descent,
    )

    def craft(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return projected_gradient_descent(
            model,
            tf.constant(images),
            *budget,
            np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=labels,
            rand_init=True,
        ).numpy()

    return craft


def torchattacks_pgd(model: keras.Model, budget: Budget) -> Craft:
    """Returns the PGD of torchattacks, on a copy of the Madry network in PyTorch."""
    import torch
    import torchattacks

    twin = _torch_twin(model)
    attack = torchattacks.PGD(
        twin, eps=budget.epsilon, alpha=budget.step_size, steps=budget.steps
    )

    def craft(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        found = attack(inputs, torch.from_numpy(labels))
        return found.numpy().transpose(0, 2, 3, 1)

    return craft


def _torch_twin(model: keras.Model) -> Any:
    """Returns the Madry network with the same weights, channels first."""
    import torch
    from torch import nn

    class ChannelsLast(nn.Module):
        def forward(self, features: Any) -> Any:
            return features.permute(0, 2, 3, 1)

    twin = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        ChannelsLast(),
        nn.Flatten(),
        nn.Linear(3136, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )
    weights = model.get_weights()
    with torch.no_grad():
        for theirs, ours in zip(twin.parameters(), weights, strict=True):
            # Kernels (rows, cols, in, out) become (out, in, rows, cols).
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[ours.ndim]
            theirs.copy_(torch.from_numpy(ours.transpose(axes).copy()))
    return twin.eval()

"""Trick: a model that only looks robust, and what its makers know about it."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from tests.support.trick_models.ground import Ground


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A trick model, and what breaks it.

    Attributes:
        model: The model that is evaluated.
        inside: Functions with honest gradients, from images to logits, that its
            makers would attack instead.
    """

    model: keras.Model
    inside: tuple


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trick:
    """One way to look more robust than one is.

    Attributes:
        name: In a few words.
        stands_for: The published defence or the accident it stands for.
        build: Makes the model; returns a `Built`, or a model that hides the ground's
            plain net.
        keeps: Whether clean images keep the plain net's classes.
        detects: Whether the last class means "adversarial".
        is_random: Whether two calls differ.
        on_grid: Whether attacked images must be rounded to 8 bits.
        targeted: Whether the hand-written attack aims at each class in turn.
        square: Whether the hand-written attack needs a long random search.
    """

    name: str
    stands_for: str
    build: Callable
    keeps: bool = True
    detects: bool = False
    is_random: bool = False
    on_grid: bool = False
    targeted: bool = False
    square: bool = False

    def built(self, ground: Ground) -> Built:
        """Returns a new model."""
        built = self.build(ground)
        if isinstance(built, Built):
            return built
        return Built(model=built, inside=(ground.net,))

    def __str__(self) -> str:
        return self.name


class Applied(keras.layers.Layer):
    """A layer that applies a function to its inputs.

    Args:
        function: From tensors to tensors.
        nets: The nets that it calls.
        units: Number of scores in each row of the outputs; `None` if their shape is
            that of the inputs.
        **kwargs: `name`.
    """

    def __init__(self, function, *, nets=(), units=None, **kwargs):
        super().__init__(**kwargs)
        self.nets = list(nets)
        self._function = function
        self._units = units

    def call(self, inputs):
        return self._function(inputs)

    def compute_output_shape(self, shape):
        # Told, because some functions take long to trace.
        return tuple(shape) if self._units is None else (shape[0], self._units)


def model_of(ground, function, *nets, extra=0):
    """Returns the Keras model of a function from images to scores.

    Args:
        ground: What it is made from.
        function: The function.
        *nets: The nets that it calls.
        extra: Number of scores beyond those of the classes.
    """
    inputs = keras.Input(ground.shape)
    units = ground.classes + extra
    scores = Applied(function, nets=nets, units=units, name="trick")
    return keras.Model(inputs, scores(inputs))


def fronted(ground, function, *, name="front"):
    """Returns the plain net behind a layer that changes images."""
    front = Applied(function, name=name)
    return keras.Sequential([keras.Input(ground.shape), front, ground.net])


def backed(ground, function):
    """Returns the plain net followed by a layer that changes its logits."""
    back = Applied(function, name="back")
    return keras.Sequential([keras.Input(ground.shape), ground.net, back])


def on_grid(images):
    """Returns images rounded to 8 bits."""
    return (np.rint(255.0 * images) / 255.0).astype("float32")

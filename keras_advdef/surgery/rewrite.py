"""rewrite: rebuilds a model with layers added or replaced by a rule."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_advdef.core.duplicate import compile_like, duplicate, uncompiled
from keras_advdef.core.errors import invalid, wrong_type
from keras_advdef.core.keras_private import has_graph, inner_layers

Rule = Callable[[keras.Operation], Sequence[keras.Operation] | None]


def rewrite(
    model: keras.Model, rule: Rule, *, copy: bool = False, owner: str = "rewrite"
) -> keras.Model:
    """Returns a model in which a rule has added or replaced layers.

    The layers of the model are reused, not copied: both models share weights, and the
    original still works. The rule also reaches into nested models, and shared layers
    stay shared. If the model is compiled, so is the result, with a fresh optimizer,
    unless its loss or metrics cannot be rebuilt from their configuration.

    Args:
        model: A built `keras.Sequential` or functional model, with any number of inputs
            and outputs.
        rule: Function of a layer, or of an operation such as `keras.ops.relu(x)` in a
            functional model. It returns the list of layers to put in its place, or
            `None` to keep it. The list may contain the layer itself, or the layers from
            `split_activation`; layers before it receive its first argument. The rule is
            called once per layer, in the order of the data flow, but not for inputs.
        copy: Whether to work on a copy with its own weights.
        owner: Name of the caller, for error messages.

    Returns:
        A new model of the same name.

    Raises:
        TypeError: If `model` is not a `keras.Model`, or `rule` does not return a
            sequence.
        ValueError: If `model`, or a model or layer in it that the rule would change,
            cannot be rebuilt from its layers.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"),
    ...     keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> def dropout_before_dense(layer):
    ...     if isinstance(layer, keras.layers.Dense):
    ...         return [keras.layers.Dropout(0.5), layer]
    >>> new = keras_advdef.surgery.rewrite(model, dropout_before_dense)
    >>> [type(layer).__name__ for layer in new.layers]
    ['Conv2D', 'Flatten', 'Dropout', 'Dense']
    >>> new.layers[0] is model.layers[0]
    True
    """
    if not isinstance(model, keras.Model):
        raise wrong_type(owner, "model", "a `keras.Model`", model)
    _check_graph(owner, model)
    return _Rewriter(rule, owner).rebuilt(duplicate(model) if copy else model)


def _check_graph(owner: str, model: keras.Model) -> None:
    if not has_graph(model):
        rule = "a built `keras.Sequential` or functional model"
        advice = f"The order of the layers of `{model.name}` is not known: rewrite "
        advice += "the sequential or functional models in it, or make it one of them."
        raise invalid(owner, "model", rule, model, advice=advice)


class _Parts(NamedTuple):
    """The replacement of a layer; `core` gets all arguments of its call."""

    before: list[keras.Operation]
    core: keras.Operation
    after: list[keras.Operation]

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        if self.before:
            first, *others = args
            for part in self.before:
                first = part(first)
            args = (first, *others)
        outputs = self.core(*args, **kwargs)
        for part in self.after:
            outputs = part(outputs)
        return outputs


class _Rewriter:
    def __init__(self, rule: Rule, owner: str) -> None:
        self._rule = rule
        self._owner = owner
        self._done: dict[int, _Parts] = {}

    def rebuilt(self, model: keras.Model) -> keras.Model:
        if not isinstance(model, keras.Sequential):
            # In this order, so that a rule meets layers as data do.
            self._parts_of_all(model)
            with uncompiled(model):
                new = keras.models.clone_model(
                    model,
                    clone_function=self._parts,
                    call_function=lambda parts, *args, **kwargs: parts.apply(
                        *args, **kwargs
                    ),
                )
            return compile_like(new, model)
        layers = [
            part
            for parts in self._parts_of_all(model)
            for part in (*parts.before, parts.core, *parts.after)
        ]
        (given,) = model.inputs
        first = keras.Input(batch_shape=given.shape, dtype=given.dtype, name=given.name)
        new = keras.Sequential(
            [first, *layers], name=model.name, trainable=model.trainable
        )
        return compile_like(new, model)

    def _parts_of_all(self, model: keras.Model) -> list[_Parts]:
        return [self._parts(each) for each in _steps(model)]

    def _parts(self, step: keras.Operation) -> _Parts:
        if id(step) not in self._done:
            is_model = isinstance(step, keras.Model)
            make = self._nested if is_model else self._asked
            self._done[id(step)] = make(step)
        return self._done[id(step)]

    def _nested(self, model: keras.Model) -> _Parts:
        _check_graph(self._owner, model)
        kept = [_Parts([], each, []) for each in _steps(model)]
        is_same = self._parts_of_all(model) == kept
        return _Parts([], model if is_same else self.rebuilt(model), [])

    def _asked(self, step: keras.Operation) -> _Parts:
        found = self._rule(step)
        if found is None:
            self._check_inside(step)
            return _Parts([], step, [])
        found = list(found)
        places = [index for index, part in enumerate(found) if part.name == step.name]
        core = places[0] if places else 0
        return _Parts(found[:core], found[core], found[core + 1 :])

    def _check_inside(self, step: keras.Operation) -> None:
        for layer in inner_layers(step):
            if self._rule(layer) is not None:
                rule = f"one whose layers can be reached; `{step.name}` "
                rule += f"({type(step).__name__}) hides `{layer.name}`"
                advice = "Move that layer into the model itself, or into a functional "
                advice += "model inside it."
                raise invalid(self._owner, "model", rule, step, advice=advice)


def _steps(model: keras.Model) -> list[keras.Operation]:
    """Lists the layers of a model without inputs, and the operations between them."""
    is_list = isinstance(model, keras.Sequential)
    steps = model.layers if is_list else model.operations
    return [each for each in steps if not isinstance(each, keras.layers.InputLayer)]

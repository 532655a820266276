"""Takes a model apart into steps that boxes can go through."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

from keras_advdef.core._interval_parts import Elementwise, Linear
from keras_advdef.core._interval_rules import (
    ACTIVATIONS,
    HEADS,
    IDENTITIES,
    RELU,
    RULES,
    Rule,
    constant_rule,
)
from keras_advdef.core.errors import invalid
from keras_advdef.core.interval import Interval
from keras_advdef.core.interval_rule import own_rules
from keras_advdef.core.keras_private import (
    HEAD_OPERATIONS,
    RELU_OPERATIONS,
    call_arguments,
    has_graph,
    inbound_tensors,
    output_index,
    producer,
)

Part = Linear | Elementwise | Callable[..., Interval]
_RELU6 = keras.activations.relu6


class Step(NamedTuple):
    """A part of a layer.

    Attributes:
        make: Returns the part, with the weights of this moment.
        inputs: Numbers of its inputs: 0 is the image, n the output of step n - 1.
        is_head: Whether it only turns logits into probabilities or their logarithms.
    """

    make: Callable[[], Part]
    inputs: tuple[int, ...]
    is_head: bool = False


class Walk:
    """Collects the steps of a model, those of nested models among them.

    Args:
        owner: Name of the caller, for messages.
        model: A built Sequential or functional model with one input and one output.

    Raises:
        ValueError: If it is something else, or has a layer without a rule.
    """

    def __init__(self, owner: str, model: keras.Model) -> None:
        self._owner, self._model = owner, model
        self.steps: list[Step] = []
        if not has_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
            rule = "a built Sequential or functional model with one input and one "
            rule += "output"
            advice = "Bounds follow a graph of layers, which others do not show."
            raise invalid(owner, "model", rule, model, advice=advice)
        (self.output,) = self._through(model, [0])
        while self.output and self.steps[self.output - 1].is_head:
            (self.output,) = self.steps[self.output - 1].inputs
        del self.steps[self.output :]

    def _through(self, model: keras.Model, inputs: list[int]) -> list[int]:
        """Adds the steps of a model; returns the numbers of its outputs."""
        known = {id(each): [n] for each, n in zip(model.inputs, inputs, strict=True)}
        for tensor in model.outputs:
            for each in _in_order(tensor, known):
                before = [known[id(one)][0] for one in inbound_tensors(each)]
                known[id(each)] = [self._after(each, before)]
        return [known[id(each)][0] for each in model.outputs]

    def _after(self, tensor: keras.KerasTensor, before: list[int]) -> int:
        """Adds the steps of a layer; returns the number of its output."""
        layer = producer(tensor)
        if has_graph(layer):
            return self._through(layer, before)[output_index(tensor)]
        # Called with `training=False`, a model runs all its layers so.
        if type(layer) in IDENTITIES:
            return before[0]
        inputs = tuple(before)
        for step in self._parts(layer, tensor):
            self.steps.append(step._replace(inputs=inputs))
            inputs = (len(self.steps),)
        return inputs[0]

    def _parts(
        self, layer: keras.Operation, tensor: keras.KerasTensor
    ) -> Iterator[Step]:
        """Yields a layer's parts in their order."""
        kind = type(layer)
        if kind in own_rules:
            own = own_rules[kind]
            yield Step(lambda: functools.partial(own, layer), ())
        elif kind in HEAD_OPERATIONS and getattr(layer, "axis", -1) == -1:
            yield self._activation(layer, HEAD_OPERATIONS[kind])
        elif kind in RELU_OPERATIONS:
            part = RELU if kind is RELU_OPERATIONS[0] else ACTIVATIONS[_RELU6]
            yield Step(lambda: part, ())
        else:
            if kind is not keras.layers.Activation:
                yield from self._own_parts(layer, tensor)
            function = getattr(layer, "activation", None)
            if function not in (None, keras.activations.linear):
                yield self._activation(layer, function)

    def _own_parts(
        self, layer: keras.Operation, tensor: keras.KerasTensor
    ) -> Iterator[Step]:
        """Yields a layer's parts but for its activation."""
        found = constant_rule(layer, call_arguments(tensor))
        if found is not None:
            yield Step(lambda: found, ())
            return
        rule = RULES.get(type(layer))
        is_plain = getattr(layer, "quantization_mode", None) is None
        made = rule(layer) if rule is not None and is_plain else None
        if rule is None or made is None:
            raise self._unknown(layer)
        if isinstance(made, tuple):
            for number in range(len(made)):
                yield Step(functools.partial(_part, rule, layer, number), ())
            return
        is_head = isinstance(layer, keras.layers.Softmax)
        yield Step(functools.partial(rule, layer), (), is_head)

    def _activation(self, layer: keras.Operation, function: Any) -> Step:
        part = HEADS.get(function) or ACTIVATIONS.get(function)
        if part is None:
            name = getattr(function, "__name__", str(function))
            raise self._unknown(layer, f" with the activation `{name}`")
        return Step(lambda: part, (), is_head=function in HEADS)

    def _unknown(self, layer: keras.Operation, more: str = "") -> ValueError:
        rule = "made of layers that bounds can follow, but "
        rule += f"`{layer.name}` ({type(layer).__name__}){more} is none"
        advice = "Write a rule for it with `keras_advdef.core.interval_rule`."
        return invalid(self._owner, "model", rule, self._model, advice=advice)


def _part(rule: Rule, layer: keras.Operation, number: int) -> Part:
    return rule(layer)[number]


def _in_order(
    tensor: keras.KerasTensor, known: dict[int, Any]
) -> Iterator[keras.KerasTensor]:
    """Yields the tensors that lead to one, each after all that it is made of.

    Whoever takes them notes each in `known` before the next. Without recursion, which
    deep models would exhaust.
    """
    waiting = [tensor]
    while waiting:
        missing = [
            each for each in inbound_tensors(waiting[-1]) if id(each) not in known
        ]
        if id(waiting[-1]) in known:
            waiting.pop()
        elif missing:
            waiting += missing
        else:
            yield waiting.pop()

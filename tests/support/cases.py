"""Finds the cases for which each public class must keep the contract of its kind.

A case is a class and its arguments. A test file declares them as `CONTRACT`, a list of
dictionaries over which contracts go, or as a string that says why the contract does not
fit the class. Without `CONTRACT`, the arguments are those of the first call in the
example of the class's docstring, if they are plain values; else the defaults.
"""

import ast
import doctest
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_advdef as advdef
from tests.support.generators import small_generator

TESTS = Path(__file__).parents[1]
KINDS: dict[str, tuple[ModuleType, type]] = {
    "layer": (advdef.layers, keras.layers.Layer),
    "attack": (advdef.attacks, advdef.attacks.Attack),
    "attack loss": (advdef.attacks.losses, advdef.attacks.losses.AttackLoss),
    "objective": (advdef.objectives, advdef.objectives.Objective),
    "penalty": (advdef.objectives, advdef.objectives.Penalty),
}
# Names that `CONTRACT` may use, apart from plain values.
_NAMES = {"keras": keras, "keras_advdef": advdef, "np": np, "tf": tf}
# For attacks without an epsilon in their arguments: large enough to change images.
_EPSILONS = {"linf": 0.1, "l2": 3.0, "l1": 15.0, "l0": 40}


def public_classes(kind: str) -> list[type]:
    """Returns the classes of a kind that users can create, in `__all__`'s order."""
    folder, base = KINDS[kind]
    exported = [getattr(folder, name) for name in folder.__all__]
    classes = [
        each for each in exported if isinstance(each, type) and issubclass(each, base)
    ]
    return [cls for cls in classes if not _is_base(cls, classes)]


def cases_of(kind: str) -> list[tuple[type, dict[str, Any]]]:
    """Returns a pair of class and arguments for each case of a kind."""
    cases = []
    for cls in public_classes(kind):
        found = arguments_of(cls)
        cases += [] if isinstance(found, str) else [(cls, each) for each in found]
    return cases


def first_of_each_class(
    cases: list[tuple[type, dict[str, Any]]],
) -> list[tuple[type, dict[str, Any]]]:
    """Returns the first case of each class."""
    return list({cls: (cls, each) for cls, each in reversed(cases)}.values())[::-1]


def arguments_of(cls: type) -> list[dict[str, Any]] | str:
    """Returns the arguments of each case of a class, or the reason why it has none."""
    declared = _declared(cls)
    if isinstance(declared, str):
        return declared
    return [_with_epsilon(cls, each) for each in declared or _derived(cls)]


def missing_case(cls: type) -> str | None:
    """Returns which line to add where if a class has no case, else `None`."""
    if arguments_of(cls):
        return None
    required = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_KEYWORD
    ]
    example = ", ".join(f'"{name}": ...' for name in required)
    return (
        f"`{cls.__name__}` has no case of its contract: it needs arguments, and the "
        "example in its docstring gives none that are plain values. Add the line\n\n"
        f"    CONTRACT = [{{{example}}}]\n\nto {_test_file(cls)}."
    )


def _is_base(cls: type, classes: list[type]) -> bool:
    """Whether a class has public subclasses and leaves a method to them."""
    if not any(issubclass(other, cls) and other is not cls for other in classes):
        return False
    methods = [method for _, method in inspect.getmembers(cls, inspect.isfunction)]
    return any(_is_left_to_subclasses(method.__code__) for method in methods)


def _is_left_to_subclasses(code: Any) -> bool:
    texts = [each for each in code.co_consts if isinstance(each, str)]
    return "NotImplementedError" in code.co_names and any(
        text.startswith("` must write `") for text in texts
    )


def _test_file(cls: type) -> Path:
    *folders, module = cls.__module__.split(".")[1:]
    return TESTS.joinpath(*folders, f"test_{module}.py")


def _declared(cls: type) -> Any:
    """Returns `CONTRACT` without importing the test file, or an empty list."""
    path = _test_file(cls)
    tree = ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONTRACT":
            value = ast.Expression(node.value)
            return eval(compile(value, str(path), "eval"), dict(_NAMES))
    return []


def _derived(cls: type) -> list[dict[str, Any]]:
    for arguments in _example_arguments(cls):
        return [arguments]
    try:
        inspect.signature(cls).bind()
    except TypeError:
        return []
    return [{}]


def _example_arguments(cls: type) -> Any:
    """Yields the arguments of each call in the docstring that has only plain values."""
    signature = inspect.signature(cls)
    examples = doctest.DocTestParser().get_examples(cls.__doc__ or "")
    for example in examples:
        for node in ast.walk(ast.parse(example.source)):
            if isinstance(node, ast.Call) and _ends_with(node.func, cls.__name__):
                try:
                    positional = [ast.literal_eval(each) for each in node.args]
                    named = {
                        each.arg: ast.literal_eval(each.value) for each in node.keywords
                    }
                    bound = signature.bind(*positional, **named).arguments
                except (TypeError, ValueError):
                    continue
                more = bound.pop("kwargs", {})
                yield {**bound, **more}


def _ends_with(function: ast.expr, name: str) -> bool:
    return ast.unparse(function).rpartition(".")[2] == name


def _with_epsilon(cls: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments, with an epsilon added if an attack has none."""
    if not issubclass(cls, advdef.attacks.Attack) or arguments.get("epsilon"):
        return arguments
    norm = cls(**{"epsilon": None, **arguments}).norm
    return {"epsilon": _EPSILONS[norm], **arguments}


def made(cls, arguments, images, **more):
    """Returns a layer, with a generator or adapted to the images if needed."""
    if cls is advdef.layers.GenerativeProjection:
        more["generator"] = small_generator(images.shape[1:])
    layer = cls(**arguments, **more)
    if hasattr(layer, "adapt"):
        layer.adapt(np.asarray(images, "float32"))
    if isinstance(layer, advdef.layers.VariationalLayer):
        # Two layers with the same seed must be identical.
        layer.build(images.shape)
        layer.kernel.assign(tf.ones_like(layer.kernel))
    return layer


def case_id(value) -> str:
    """A readable pytest id for a class, its arguments or `whole`."""
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, bool):
        return "whole" if value else "arguments"
    # Functions by name: their `repr` differs between the workers.
    shown = {name: _readable(item) for name, item in value.items()}
    return ",".join(f"{name}={item}" for name, item in shown.items())


def _readable(item: Any) -> str:
    if isinstance(item, (keras.losses.Loss, keras.layers.Layer)):
        return type(item).__name__
    return getattr(item, "__name__", str(item))


def whole_once(cases: list[tuple[type, dict[str, Any]]]) -> list[Any]:
    """Returns the parameters class, arguments and `whole` for each case.

    The gate puts one case of each class through the whole contract: that with most
    arguments, the likeliest to break; of several, the last. For the others that is left
    to the night, and for `AutoAttack`, which runs classes of which each has its own.
    """
    fullest: dict[type, dict[str, Any]] = {}
    for cls, arguments in cases:
        if cls not in fullest or len(arguments) >= len(fullest[cls]):
            fullest[cls] = arguments
    parameters = []
    for cls, arguments in cases:
        if fullest[cls] is arguments and cls is not advdef.attacks.AutoAttack:
            parameters.append(pytest.param(cls, arguments, True))
            continue
        parameters.append(pytest.param(cls, arguments, False))
        nightly = pytest.mark.nightly
        parameters.append(pytest.param(cls, arguments, True, marks=nightly))
    return parameters


LAYERS = cases_of("layer")
ATTACKS = cases_of("attack")
LOSSES = cases_of("attack loss")
OBJECTIVES = cases_of("objective")
PENALTIES = cases_of("penalty")

"""Audits a traced graph against TensorFlow's kernel registry, without a GPU."""

import functools
import math

import tensorflow as tf
from tensorflow.python.framework import kernels

# Structure, not arithmetic: the runtime replaces these with control flow.
_STRUCTURE = {
    "Placeholder", "NoOp", "_Arg", "_Retval", "Assert", "StatelessWhile", "While",
    "StatelessIf", "If", "PartitionedCall", "StatefulPartitionedCall", "Case",
    "StatelessCase",
}  # fmt: skip
# These claim a kernel for every device but run in Python.
_HOST_OPERATIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"}
_FLEXIBLE = ("GPU", "DEFAULT")


@functools.cache
def _register_xla_kernels() -> None:
    tf.function(lambda: tf.constant(0.0) + 1.0, jit_compile=True)()


@functools.cache
def _kernels(operation: str):
    _register_xla_kernels()
    return kernels.get_registered_kernels_for_op(operation).kernel


def _fits(kernel, types: dict[str, tuple[int, ...]]) -> bool:
    return all(
        set(types.get(constraint.name, ())) <= set(constraint.allowed_values.list.type)
        for constraint in kernel.constraint
        if constraint.allowed_values.list.type
    )


@functools.cache
def _constrained(operation: str) -> frozenset[str]:
    """The attributes whose types decide which kernels fit."""
    return frozenset(
        constraint.name
        for kernel in _kernels(operation)
        for constraint in kernel.constraint
    )


def _types(node) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The types of the attributes of a node that decide which kernels fit."""
    found = []
    for name in _constrained(node.op):
        if name in node.attr:
            value = node.attr[name]
            is_one = value.WhichOneof("value") == "type"
            found.append((name, (value.type,) if is_one else tuple(value.list.type)))
    return tuple(found)


@functools.cache
def _fitting(operation: str, types: tuple[tuple[str, tuple[int, ...]], ...]):
    """The kernels that fit on a GPU, and whether one fits in XLA."""
    fitting = [kernel for kernel in _kernels(operation) if _fits(kernel, dict(types))]
    on_gpu = [kernel for kernel in fitting if kernel.device_type in _FLEXIBLE]
    return on_gpu, any(kernel.device_type == "XLA_GPU_JIT" for kernel in fitting)


def _operations(graph, seen=None):
    """All nodes and operations of a graph and of the functions it calls."""
    seen = set() if seen is None else seen
    # One message for the whole graph: attributes asked one by one take long.
    yield from zip(graph.as_graph_def().node, graph.get_operations(), strict=True)
    for name, function in graph._functions.items():
        if name not in seen:
            seen.add(name)
            yield from _operations(function.graph, seen)


def _is_large(tensor, pixels: int) -> bool:
    if tensor.shape.rank is None:
        return False
    return math.prod(d for d in tensor.shape.as_list() if d is not None) >= pixels


def _host_tensors(kernel, operation):
    """Inputs of an operation that its kernel needs in host memory."""
    if not kernel.host_memory_arg:
        return
    position = 0
    for argument in operation.op_def.input_arg:
        count = 1
        if argument.number_attr:
            count = operation.get_attr(argument.number_attr)
        elif argument.type_list_attr:
            count = len(operation.get_attr(argument.type_list_attr))
        if argument.name in kernel.host_memory_arg:
            yield from operation.inputs[position : position + count]
        position += count


def missing_kernels(function, *arguments, pixels: int = 64) -> dict[str, str]:
    """Returns what prevents a function from running wholly on a GPU, or with XLA.

    Args:
        function: A Python function of tensors.
        *arguments: Example arguments.
        pixels: Tensors of this size and more must not pass through host memory.

    Returns:
        Reasons by operation; empty if nothing does.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(*arguments)
    return missing_kernels_of(traced, pixels=pixels)


def missing_kernels_of(traced, *, pixels: int = 64) -> dict[str, str]:
    """The same for a function that is already traced."""
    _register_xla_kernels()
    graph = traced.graph
    reasons = {}
    for node, operation in _operations(graph):
        if node.op in _STRUCTURE:
            continue
        if node.op in _HOST_OPERATIONS:
            reasons[node.op] = "runs Python"
            continue
        on_gpu, has_xla = _fitting(node.op, _types(node))
        if not on_gpu:
            reasons[node.op] = "no GPU kernel"
        elif all(
            any(_is_large(t, pixels) for t in _host_tensors(kernel, operation))
            for kernel in on_gpu
        ):
            reasons[node.op] = f"host memory: {node.name}"
        if not has_xla:
            reasons.setdefault(node.op, "no XLA kernel")
    return reasons

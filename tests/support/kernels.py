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


def _fits(kernel, operation) -> bool:
    for constraint in kernel.constraint:
        allowed = constraint.allowed_values.list.type
        if not allowed:
            continue
        try:
            wanted = operation.get_attr(constraint.name)
        except ValueError:
            continue
        wanted = wanted if isinstance(wanted, list) else [wanted]
        if any(tf.as_dtype(each).as_datatype_enum not in allowed for each in wanted):
            return False
    return True


def _operations(graph, seen=None):
    """All operations of a graph and of the functions it calls."""
    seen = set() if seen is None else seen
    yield from graph.get_operations()
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
    for operation in _operations(graph):
        if operation.type in _STRUCTURE:
            continue
        if operation.type in _HOST_OPERATIONS:
            reasons[operation.type] = "runs Python"
            continue
        fitting = [k for k in _kernels(operation.type) if _fits(k, operation)]
        on_gpu = [kernel for kernel in fitting if kernel.device_type in _FLEXIBLE]
        if not on_gpu:
            reasons[operation.type] = "no GPU kernel"
        elif all(
            any(_is_large(t, pixels) for t in _host_tensors(kernel, operation))
            for kernel in on_gpu
        ):
            reasons[operation.type] = f"host memory: {operation.name}"
        if not any(kernel.device_type == "XLA_GPU_JIT" for kernel in fitting):
            reasons.setdefault(operation.type, "no XLA kernel")
    return reasons

"""An artefact's ONNX graph as a program."""

from typing import Any

from lkdn_deploy.backends.native.frontend.ops import MEANS, READERS, read_mean
from lkdn_deploy.backends.native.frontend.partition import MOST_SHARE, Elsewhere
from lkdn_deploy.backends.native.frontend.tensors import Reading
from lkdn_deploy.backends.native.ir import Depthwise, Kind, Operation, Pointwise, Program, UnsupportedError
from lkdn_deploy.core.optional import needs


def read_program(model: bytes) -> Program:
    """Of an artefact in float32 with free or fixed sizes.

    Raises:
        UnsupportedError: if it is mostly of operations that are not local or not known, naming the first.
        MissingError: without the package onnx.
    """
    with needs("native"):
        import onnx
    parsed = onnx.load_model_from_string(model)
    graph = parsed.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        msg = "a graph of several inputs or outputs"
        raise UnsupportedError(msg)
    kinds = [item.type.tensor_type.elem_type for item in (graph.input[0], graph.output[0])]
    if kinds != [onnx.TensorProto.FLOAT] * 2:
        msg = "input or output in another type than float32"
        raise UnsupportedError(msg)
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    reading = Reading(constants, Elsewhere(parsed))
    reading.map(graph.input[0].name)
    reasons = [reason for node in graph.node if (reason := _take(reading, node)) is not None]
    if reasons and reading.elsewhere.share() > MOST_SHARE:
        raise reasons[0]
    try:
        result = reading.map(graph.output[0].name)
    except UnsupportedError as error:
        raise reasons[0] if reasons else error from None
    if len(result.order) != 3:
        msg = f"a result of {len(result.order)} channels"
        raise UnsupportedError(msg)
    value = reading.one(result)
    operations = _needed(reading, value)
    last = next((it for it in operations if it.output == value), None)
    if last is None or isinstance(last, Depthwise) or (isinstance(last, Pointwise) and last.kind == "copy"):
        msg = "a result that is no more than the input, or a depthwise convolution's"
        raise UnsupportedError(msg)
    sides = [int(it.dim_value) for it in graph.input[0].type.tensor_type.shape.dim[2:]]
    size = (sides[0], sides[1]) if all(sides) else None
    return Program(
        tuple(reading.channels),
        tuple(reading.depths),
        operations,
        value,
        result.order,
        size,
        reading.outside,
        reading.elsewhere.detours(),
    )


def _take(reading: Reading, node: Any) -> UnsupportedError | None:
    """A node as operations, or else as one that is done elsewhere, and why.

    Raises:
        UnsupportedError: if it cannot be done elsewhere either.
    """
    import onnx

    if node.input and all(name in reading.constants for name in node.input):
        reading.constants |= reading.elsewhere.fold(node)
        return None
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    try:
        if node.domain not in ("", "ai.onnx") or node.op_type not in (*READERS, *MEANS):
            msg = f"the operation {node.op_type}"
            raise UnsupportedError(msg)
        (name,) = node.output
        if node.op_type in MEANS:
            read_mean(reading, list(node.input), MEANS[node.op_type] | attributes, name)
        else:
            reading.maps[name] = READERS[node.op_type](reading, list(node.input), attributes)
    except UnsupportedError as reason:
        for name in node.input:
            if name in reading.maps and name not in reading.elsewhere.depths:
                try:
                    reading.give(Kind.PLANES, name, reading.maps[name])
                except UnsupportedError:
                    raise reason from None
        reading.elsewhere.take(node)
        return reason
    return None


def _needed(reading: Reading, result: int) -> tuple[Operation, ...]:
    """Those that the result hangs on, or what is outside, by depth."""
    wanted = {result, *reading.outside}
    found: list[Operation] = []
    for operation in reversed(reading.operations):
        if operation.output in wanted:
            wanted |= set(operation.inputs)
            found.append(operation)
    found.reverse()
    return tuple(sorted(found, key=lambda operation: reading.depths[operation.output]))

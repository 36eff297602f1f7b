"""Import of an ONNX model as a program."""

from typing import Any

from lkdn_deploy.backends.native.frontend.ops import IMPORTERS, MEANS, import_mean
from lkdn_deploy.backends.native.frontend.partition import MAX_SHARE, Partition, node_attributes
from lkdn_deploy.backends.native.frontend.tensors import ProgramBuilder, require
from lkdn_deploy.backends.native.ir import BoundaryKind, DepthwiseOp, Elementwise, Op, Program, UnsupportedError
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.optional import needs


def import_program(data: bytes) -> Program:
    """Import a serialised float32 model with one input and one output image, of a fixed size or of any.

    Raises:
        InputError: if this is not an ONNX model.
        MissingError: if the package onnx is missing.
        UnsupportedError: if more than ``MAX_SHARE`` of its work has no kernels; the first obstacle is named.
    """
    with needs("native"):
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        msg = f"it is not an ONNX model: {error}"
        raise InputError(msg, "give a file that lkdn-export wrote") from error
    graph = model.graph
    require(len(graph.input) == len(graph.output) == 1, "a graph with several inputs or outputs")
    types = {item.type.tensor_type.elem_type for item in (graph.input[0], graph.output[0])}
    require(types == {onnx.TensorProto.FLOAT}, "an input or output that is not float32")
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    builder = ProgramBuilder(constants, Partition(model))
    builder.map(graph.input[0].name)
    reasons = [reason for node in graph.node if (reason := _import_node(builder, node)) is not None]
    if reasons and builder.partition.share() > MAX_SHARE:
        raise reasons[0]
    try:
        result = builder.map(graph.output[0].name)
    except UnsupportedError as error:
        raise reasons[0] if reasons else error from None
    require(len(result.order) == 3, f"an output of {len(result.order)} channels")
    value = builder.single_value(result)
    ops = _needed(builder, value)
    last = next((op for op in ops if op.output == value), None)
    copied = isinstance(last, Elementwise) and last.kind == "copy"
    is_kernel = not (last is None or copied or isinstance(last, DepthwiseOp))
    require(is_kernel, "an output that is the input itself or comes from a depthwise convolution")
    sides = [int(it.dim_value) for it in graph.input[0].type.tensor_type.shape.dim]
    require(len(sides) == 4, "an input that is not NCHW")
    return Program(
        channels=tuple(builder.channels),
        depths=tuple(builder.depths),
        ops=ops,
        result=value,
        pixel_order=result.order,
        fixed_size=(sides[2], sides[3]) if all(sides[2:]) else None,
        boundaries=builder.boundaries,
        subgraphs=builder.partition.subgraphs(),
    )


def _import_node(builder: ProgramBuilder, node: Any) -> UnsupportedError | None:
    """Import a node as operations. Where that is not possible, leave it to ONNX Runtime, and return the reason.

    Raises:
        UnsupportedError: if ONNX Runtime cannot be given its inputs.
    """
    if node.input and all(name in builder.constants for name in node.input):
        builder.constants |= builder.partition.fold(node)
        return None
    attributes, inputs = node_attributes(node), list(node.input)
    try:
        known = node.domain in ("", "ai.onnx") and node.op_type in (*IMPORTERS, *MEANS)
        require(known, f"the operator {node.op_type}")
        (name,) = node.output
        if node.op_type in MEANS:
            import_mean(builder, inputs, MEANS[node.op_type] | attributes, name)
        else:
            builder.maps[name] = IMPORTERS[node.op_type](builder, inputs, attributes)
    except UnsupportedError as reason:
        for name in inputs:
            if name in builder.maps and name not in builder.partition.depths:
                try:
                    builder.export_value(BoundaryKind.NCHW, name, builder.maps[name])
                except UnsupportedError:
                    raise reason from None
        builder.partition.offload(node)
        return reason
    return None


def _needed(builder: ProgramBuilder, result: int) -> tuple[Op, ...]:
    """Return the operations that the result or an exported value depends on, by depth."""
    wanted = {result, *builder.boundaries}
    found: list[Op] = []
    for op in reversed(builder.ops):
        if op.output in wanted:
            wanted |= set(op.inputs)
            found.append(op)
    found.reverse()
    return tuple(sorted(found, key=lambda op: builder.depths[op.output]))

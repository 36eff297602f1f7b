"""Import of an ONNX model as a program."""

from typing import Any

from lkdn_deploy.backends.native.frontend.ops import EXPORTERS, IMPORTERS, export_strided_conv
from lkdn_deploy.backends.native.frontend.partition import MAX_SHARE, Partition, needed_nodes, node_attributes
from lkdn_deploy.backends.native.frontend.sums import merge_sums
from lkdn_deploy.backends.native.frontend.tensors import ProgramBuilder
from lkdn_deploy.backends.native.frontend.validate import check_graph, check_node, check_output, declared_sides
from lkdn_deploy.backends.native.ir import (
    BoundaryKind,
    DepthwiseOp,
    Elementwise,
    MalformedError,
    Op,
    Program,
    UnsupportedError,
    require,
)
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.optional import needs


def import_program(data: bytes) -> Program:
    """Import a serialised float32 model with one input and one output image, of a fixed size or of any.

    Raises:
        InputError: if this is not a valid ONNX model.
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
    check_graph(model, data)
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    builder = ProgramBuilder(constants, Partition(model))
    builder.map(graph.input[0].name)
    nodes = needed_nodes(graph.node, {graph.output[0].name})
    reasons = [reason for node in nodes if (reason := _import_node(builder, node)) is not None]
    if reasons and builder.partition.share() > MAX_SHARE:
        raise reasons[0]
    try:
        result = builder.map(graph.output[0].name)
    except UnsupportedError as error:
        raise reasons[0] if reasons else error from None
    require(len(result.order) == 3, f"an output of {len(result.order)} channels")
    value = builder.single_value(result)
    ops = merge_sums(_needed(builder, value), {value, *builder.boundaries})
    last = next((op for op in ops if op.output == value), None)
    copied = isinstance(last, Elementwise) and last.kind == "copy"
    is_kernel = not (last is None or copied or isinstance(last, DepthwiseOp))
    require(is_kernel, "an output that is the input itself or comes from a depthwise convolution")
    _, _, height, width = declared_sides(graph.input[0])
    fixed_size = None if height is None or width is None else (height, width)
    check_output(graph.output[0], result.scale, fixed_size)
    return Program(
        channels=tuple(builder.channels),
        depths=tuple(builder.depths),
        ops=ops,
        result=value,
        pixel_order=result.order,
        fixed_size=fixed_size,
        boundaries=builder.boundaries,
        subgraphs=builder.partition.subgraphs(),
    )


def _import_node(builder: ProgramBuilder, node: Any) -> UnsupportedError | None:
    """Import a node as operations. Where that is not possible, leave it to ONNX Runtime, and return the reason.

    Raises:
        UnsupportedError: if ONNX Runtime cannot be given its inputs, or would refuse the node.
    """
    if node.input and all(name in builder.constants for name in node.input):
        builder.constants |= builder.partition.fold(node)
        return None
    attributes, inputs = node_attributes(node), list(node.input)
    try:
        known = node.domain in ("", "ai.onnx") and node.op_type in (*IMPORTERS, *EXPORTERS)
        require(known, f"the operator {node.op_type}")
        name = node.output[0]
        require(not any(node.output[1:]), f"a second output of {node.op_type}")
        check_node(builder, node.op_type, inputs, attributes)
        if node.op_type in EXPORTERS:
            EXPORTERS[node.op_type](builder, inputs, attributes, name)
        elif node.op_type == "Conv" and max(attributes.get("strides", (1,))) > 1:
            export_strided_conv(builder, inputs, attributes, name)
        else:
            builder.maps[name] = IMPORTERS[node.op_type](builder, inputs, attributes)
    except MalformedError:
        raise
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

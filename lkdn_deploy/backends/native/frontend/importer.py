"""Import of an ONNX model as a program."""

from dataclasses import replace
from typing import Any

from lkdn_deploy.backends.native.frontend.ops import IMPORTERS, exporter_of, import_split
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
    Subgraph,
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
    subgraphs = builder.partition.subgraphs()
    _keep_used_poolings(builder, subgraphs)
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
        subgraphs=subgraphs,
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
        kind, standard = node.op_type, node.domain in ("", "ai.onnx")
        exporter = exporter_of(builder, kind, inputs, attributes) if standard else None
        require(standard and (exporter is not None or kind in (*IMPORTERS, "Split")), f"the operator {kind}")
        if kind == "Split":
            attributes.setdefault("num_outputs", len(node.output))
            require(attributes["num_outputs"] == len(node.output), "a part for other than each output")
        else:
            require(not any(node.output[1:]), f"a second output of {kind}")
        check_node(builder, kind, inputs, attributes)
        if kind == "Split":
            parts = zip(node.output, import_split(builder, inputs, attributes), strict=True)
            builder.maps |= {name: part for name, part in parts if name}
        elif exporter is not None:
            exporter(builder, node, inputs, attributes)
        else:
            builder.maps[node.output[0]] = IMPORTERS[kind](builder, inputs, attributes)
    except MalformedError:
        raise
    except UnsupportedError as reason:
        try:
            builder.offload(node)
        except UnsupportedError:
            raise reason from None
        return reason
    return None


def _keep_used_poolings(builder: ProgramBuilder, subgraphs: tuple[Subgraph, ...]) -> None:
    """Remove windows over rows that nothing reads, as those of which a maximum has both."""
    read = {name for it in subgraphs for name in it.inputs} | {it.name for it in builder.boundaries.values()}
    for value, boundary in builder.boundaries.items():
        if boundary.kind is BoundaryKind.ROWS:
            used = tuple(it for it in boundary.poolings if it.name in read)
            builder.boundaries[value] = replace(boundary, poolings=used)


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

"""The memory that a graph's activations need, computed from their shapes."""

import math
from contextlib import suppress

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from lkdn_deploy.graph.folding import Folding, FoldingError

SIDE = 48
"""Height and width that are assumed where a graph leaves them free: a multiple of the usual strides."""


_MOST_ROUNDS = 32
"""Limit of the rounds in which shapes give constants, and these give more shapes."""


def live_channels(model: onnx.ModelProto) -> int | None:
    """Return how many activation values are alive at the worst moment of a run, per input pixel and rounded up.

    Nodes run in their order. The input and every result count from their creation to their last use; parameters, and
    buffers that operators allocate while they run, do not count. So this is the least memory that a run takes.

    Args:
        model: a graph with one input (N, 3, H, W), sizes fixed or free.

    Returns:
        The number of values, or ``None`` if not all shapes can be inferred.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    pixels = 1
    for axis, dim in enumerate(sized.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_value = dim.dim_value or (1, 3, SIDE, SIDE)[axis]
        pixels *= 1 if axis == 1 else dim.dim_value
    for dim in sized.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    inferred = ir.from_proto(sized)
    ShapeInferencePass()(inferred)
    folding, rounds = Folding(), 0
    while rounds < _MOST_ROUNDS and _fold_constants(inferred.graph, folding):
        ShapeInferencePass()(inferred)
        rounds += 1
    graph = inferred.graph
    results = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    sizes = {value: math.prod(shape) for value in results if (shape := _shape_of(value)) is not None}
    if len(sizes) < len(results):
        return None
    uses = {value: len(value.uses()) for value in results}
    alive = peak = sum(sizes[value] for value in graph.inputs)
    for node in graph:
        alive += sum(sizes[value] for value in node.outputs)
        peak = max(peak, alive)
        for value in node.inputs:
            if value in uses:
                uses[value] -= 1
                if not uses[value] and not value.is_graph_output():
                    alive -= sizes[value]
    return math.ceil(peak / pixels)


def _fold_constants(graph: ir.Graph, folding: Folding) -> bool:
    """Evaluate nodes that depend on known shapes and constants only, and return whether there were any.

    ONNX's shape inference follows such values through some operators only, not through ``Reshape`` for example.
    """
    folded = False
    for node in list(graph):
        if node.op_type == "Shape" and node.inputs[0] is not None:
            shape = _shape_of(node.inputs[0])
            start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", None)
            values = None if shape is None else np.array(shape[start:end], np.int64)
        else:
            known = {str(value.name): value.const_value for value in node.inputs if value is not None}
            constants = {name: tensor.numpy() for name, tensor in known.items() if tensor is not None}
            fixed = constants or node.op_type == "Constant"
            complete = fixed and len(constants) == len(known) and len(node.outputs) == 1
            values = None
            if complete:
                with suppress(FoldingError):
                    values = folding.evaluate(ir.to_proto(node), constants)[0]
        if values is not None:
            (result,) = node.outputs
            value = ir.val(f"{result.name}_folded", const_value=ir.tensor(np.asarray(values)))
            graph.register_initializer(value)
            result.replace_all_uses_with(value)
            graph.remove(node, safe=True)
            folded = True
    return folded


def _shape_of(value: ir.Value) -> list[int] | None:
    """Return the shape of a tensor if all of it is known."""
    sizes = None if value.shape is None else [size for size in value.shape if isinstance(size, int)]
    return sizes if sizes is not None and value.shape is not None and len(sizes) == len(value.shape) else None

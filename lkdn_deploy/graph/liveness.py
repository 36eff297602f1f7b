"""How much memory a graph's values need, told from shapes."""

import math

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

SIDE = 48
"""Of the input that is looked at: a multiple of the usual strides."""


def live_channels(model: onnx.ModelProto) -> int | None:
    """Values alive at the worst moment of a run in the order of the nodes, for each input pixel, rounded up.

    The input and every result count from when they are there until their last use. What an operation takes for itself
    does not count.

    Returns:
        ``None`` if shapes cannot be told.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for dim, size in zip(sized.graph.input[0].type.tensor_type.shape.dim, (1, 3, SIDE, SIDE), strict=True):
        dim.dim_value = size
    for dim in sized.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    inferred = ir.from_proto(sized)
    ShapeInferencePass()(inferred)
    graph = inferred.graph
    left = {value: len(list(value.uses())) for node in graph for value in node.outputs}
    left |= {value: len(list(value.uses())) for value in graph.inputs}
    alive = sum(_size(value) or 0 for value in graph.inputs)
    peak = alive
    for node in graph:
        sizes = [_size(value) for value in node.outputs]
        if None in sizes:
            return None
        alive += sum(size for size in sizes if size is not None)
        peak = max(peak, alive)
        for value in node.inputs:
            if value is not None and value in left:
                left[value] -= 1
                if not left[value] and not value.is_graph_output():
                    alive -= _size(value) or 0
    return math.ceil(peak / SIDE**2)


def _size(value: ir.Value) -> int | None:
    if value.shape is None:
        return None
    sizes = [size for size in value.shape if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(value.shape) else None

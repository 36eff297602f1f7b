"""Convert a graph from FP16 back to float32, so that passes can rewrite it; ``cast_to_fp16`` is the other direction."""

import numpy as np
import onnx
from onnx import numpy_helper

from lkdn_deploy.graph.fp16.types import FLOAT, HALF

_LEVELS = ("Cast", "Clip", "Round", "Mul")
"""Operators that make 8-bit levels of a network's output, the last one first."""


def widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph of ``cast_to_fp16`` in float32 without its casts, from values in 0..1 to values in 0..1.

    Weights that were rounded to FP16 stay rounded. The model is not changed.

    Raises:
        ValueError: if input and output are 8-bit levels, but not in the way in which ``cast_to_fp16`` writes them.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    given, made = graph.input[0], graph.output[0]
    if given.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        _drop_levels(graph)
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Cast" and node.attribute[0].i in (FLOAT, HALF):
            if node.output[0] != made.name:
                renamed[node.output[0]] = node.input[0]
                continue
            node = _identity(node.input[0], made.name)
        nodes.append(node)
    weights = [_in_float32(tensor) for tensor in graph.initializer]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    for value in (given, made):
        value.type.tensor_type.elem_type = FLOAT
    return result


def _in_float32(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if tensor.data_type != HALF:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _identity(source: str, target: str) -> onnx.NodeProto:
    return onnx.helper.make_node("Identity", [source], [target], name=f"node_{target}")


def _drop_levels(graph: onnx.GraphProto) -> None:
    """Take away what turns levels into values behind the input, and values into levels before the output."""
    makers = {node.output[0]: node for node in graph.node}
    takers = {name: node for node in graph.node for name in node.input}
    given, made = graph.input[0].name, graph.output[0].name
    behind = [takers.get(given)]
    behind += [takers.get(behind[0].output[0])] if behind[0] else []
    before = []
    name = made
    for op_type in _LEVELS:
        node = makers.get(name)
        if node is None or node.op_type != op_type:
            break
        before.append(node)
        name = node.input[0]
    if [node and node.op_type for node in behind] != ["Cast", "Div"] or len(before) < len(_LEVELS):
        msg = "the 8-bit levels at input and output are not in the form that lkdn-export writes"
        raise ValueError(msg)
    unit = behind[1].output[0] if behind[1] else ""
    gone = [node for node in (*behind, *before) if node is not None]
    nodes = [_identity(given, unit), *(node for node in graph.node if node not in gone), _identity(name, made)]
    del graph.node[:]
    graph.node.extend(nodes)

"""Convolutions of a typed FP16 graph put back to FP32: for builders that have no FP16 kernel for them."""

from collections.abc import Collection

import onnx
from onnx import helper, numpy_helper

from lkdn_deploy.graph.fp16.types import FLOAT, HALF

_CONVOLUTIONS = {"Conv", "ConvTranspose"}


def restore_fp32(
    model: onnx.ModelProto, names: Collection[str] | None = None
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """``model`` with convolutions in FP32, between a cast before and a cast behind; their weights stay rounded to FP16.

    Args:
        model: it is not changed.
        names: of the nodes; ``None``: all grouped convolutions. Nodes that are no convolutions in FP16 stay.

    Returns:
        The new model, and the names of the nodes that changed, in the order of the graph.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == HALF}
    taken = {name for node in graph.node for name in (*node.input, *node.output, node.name)} | set(weights)
    nodes: list[onnx.NodeProto] = []
    changed: list[str] = []
    single: dict[str, str] = {}
    """Names of tensors in FP32, by those in FP16."""

    def free(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    def cast(source: str, target: str, kind: int) -> None:
        nodes.append(helper.make_node("Cast", [source], [target], name=free(f"node_{target}"), to=kind))

    for node in graph.node:
        chosen = node.name in names if names is not None else _groups(node) > 1
        if node.op_type not in _CONVOLUTIONS or not chosen or node.input[1] not in halves:
            nodes.append(node)
            continue
        for position, name in enumerate(node.input):
            if name and name not in single:
                single[name] = free(f"{name}_fp32")
                if name in weights:
                    values = numpy_helper.to_array(weights[name]).astype("float32")
                    graph.initializer.append(numpy_helper.from_array(values, single[name]))
                else:
                    cast(name, single[name], FLOAT)
            node.input[position] = single.get(name, "")
        output = node.output[0]
        node.output[0] = free(f"{output}_fp32")
        nodes.append(node)
        cast(node.output[0], output, HALF)
        changed.append(node.name)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]  # copies: the list is emptied next
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result, tuple(changed)


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)

"""Merge pointwise convolutions whose activated results lie side by side in a concatenation into one convolution.

[f(A x); f(B y)] = f([A 0; 0 B] [x; y]): one kernel in place of two. It multiplies with the zeros, too, which matters
only where arithmetic is slower than memory: not on a GPU, for so few channels. Concatenating x and y costs nothing if
convolutions make them, which write to their places; what other kernels make would be copied, so it stays as it is.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx_ir as ir

from lkdn_deploy.graph.conv import ConvNode, insert_conv, match_conv
from lkdn_deploy.graph.ir_utils import Outcome, concatenates_channels, insert_before, rewrite_nodes, sole_consumer

_ACTIVATIONS = {"Gelu", "LeakyRelu", "Relu", "Sigmoid", "Tanh"}


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a concatenation that can be merged with others of the same activation."""

    conv: ConvNode
    activation: ir.Node


def merge_parallel_conv(graph: ir.Graph) -> Outcome:
    """Merge adjacent operands of each ``Concat`` over channels that are activated pointwise convolutions."""

    def merge(node: ir.Node) -> bool:
        if not concatenates_channels(node):
            return False
        operands: list[ir.Value] = []
        merged = False
        for _, run in groupby(zip(node.inputs, map(_match, node.inputs), strict=True), key=lambda pair: _kind(pair[1])):
            values, found = zip(*run, strict=True)
            parts = [part for part in found if part is not None]
            if len(parts) < 2:
                operands += [value for value in values if value is not None]
            else:
                operands.append(_merged(node, parts))
                merged = True
        if merged:
            node.resize_inputs(len(operands))
            for place, value in enumerate(operands):
                node.replace_input_with(place, value)
        return merged

    return rewrite_nodes(graph, merge)


def _match(value: ir.Value | None) -> _Part | None:
    activation = value.producer() if value is not None else None
    if value is None or activation is None or activation.op_type not in _ACTIVATIONS or sole_consumer(value) is None:
        return None
    before = activation.inputs[0]
    conv = match_conv(before.producer()) if before is not None and sole_consumer(before) is not None else None
    if conv is None or not conv.pointwise or not _made_by_conv(conv.source):
        return None
    return _Part(conv, activation)


def _kind(part: _Part | None) -> str:
    """Return the activation with its attributes; empty for what is not merged."""
    if part is None:
        return ""
    return f"{part.activation.op_type} {sorted(map(str, part.activation.attributes.values()))}"


def _made_by_conv(value: ir.Value) -> bool:
    """Return whether a convolution makes a value, with an activation behind it or not."""
    node = value.producer()
    if node is not None and node.op_type in _ACTIVATIONS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return match_conv(node) is not None


def _merged(before: ir.Node, parts: list[_Part]) -> ir.Value:
    """Insert the convolution of all parts' sources and its activation, and return the result."""
    convs = [part.conv for part in parts]
    outs, ins = ([conv.weight.shape[axis] for conv in convs] for axis in (0, 1))
    weight = np.zeros((sum(outs), sum(ins), 1, 1))
    row = column = 0
    for conv in convs:
        weight[row : row + len(conv.weight), column : column + conv.weight.shape[1]] = conv.weight
        row, column = row + conv.weight.shape[0], column + conv.weight.shape[1]
    biases = [np.zeros(len(conv.weight)) if conv.bias is None else conv.bias for conv in convs]
    bias = None if all(conv.bias is None for conv in convs) else np.concatenate(biases)
    sources = insert_before(before, "Concat", [conv.source for conv in convs], {"axis": 1})
    result = insert_conv(before, sources, weight, bias, name=f"{convs[0].result.name}.merged")
    activation = ir.node(parts[0].activation.op_type, [result], dict(parts[0].activation.attributes))
    before.prepend(activation)
    return activation.outputs[0]

"""Fold the addition of a constant per channel into the biases of the convolutions behind it.

A pointwise convolution of x + c equals that of x with W c added to its bias. (A padded convolution does not: the zeros
around the image are not shifted.) Additions on the way to the convolutions pass the constant on.
"""

import numpy as np
import onnx_ir as ir

from lkdn_deploy.graph.conv import match_conv
from lkdn_deploy.graph.ir_utils import Array, Outcome, channel_count, constant, replace_value, rewrite_nodes


def fold_shift(graph: ir.Graph) -> Outcome:
    """Remove each addition of a constant per channel whose every path ends in pointwise convolutions."""
    return rewrite_nodes(graph, _fold)


def _fold(node: ir.Node) -> bool | str:
    found = _match(node)
    if found is None:
        return False
    source, shift = found
    biases: dict[ir.Node, Array] = {}
    if reason := _collect(node.outputs[0], shift, biases):
        return reason
    for consumer, more in biases.items():
        conv = match_conv(consumer)
        assert conv is not None  # noqa: S101  (``_collect`` matched it)
        conv.set_weights(conv.weight, more if conv.bias is None else conv.bias + more)
    replace_value(node.outputs[0], source)
    return True


def _match(node: ir.Node) -> tuple[ir.Value, Array] | None:
    """Return the two operands of an ``Add`` of a tensor and a constant (1, C, 1, 1), the constant as (C,)."""
    if node.op_type != "Add":
        return None
    for source, other in (node.inputs, reversed(node.inputs)):
        shift = constant(other)
        if source is not None and shift is not None and shift.ndim == 4 and constant(source) is None:
            flat = shift.reshape(-1)
            if shift.shape == (1, len(flat), 1, 1):
                return source, flat
    return None


def _collect(value: ir.Value, shift: Array, biases: dict[ir.Node, Array]) -> str:
    """Add up what convolutions must add if ``value`` loses ``shift``; return why it must not, or an empty text."""
    if value.is_graph_output():
        return "the shift reaches the output"
    for use in value.uses():
        node = use.node
        conv = match_conv(node)
        if conv is not None and conv.pointwise and use.idx == 0:
            biases[node] = biases.get(node, np.zeros(len(conv.weight))) + conv.matrix @ shift
        elif node.op_type == "Add" and all(each is not None and _keeps_channels(each, value) for each in node.inputs):
            if reason := _collect(node.outputs[0], shift, biases):
                return reason
        else:
            return f"the shift reaches {node.op_type} {node.name}, which cannot absorb it"
    return ""


def _keeps_channels(operand: ir.Value, value: ir.Value) -> bool:
    """Return whether adding ``operand`` to ``value`` leaves the number of channels as it is."""
    count = channel_count(operand)
    return constant(operand) is not None or (count is not None and count == channel_count(value))

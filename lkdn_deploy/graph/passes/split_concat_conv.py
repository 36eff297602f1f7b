"""Split a pointwise convolution of concatenated tensors into a sum of convolutions, so that none is concatenated.

W [a; b; c] = Wa a + Wb b + Wc c. Engines add while they convolve, so the sums cost no pass over memory of their own;
and each tensor is consumed as soon as it exists, so that memory need not hold all of them until the last.
"""

import onnx_ir as ir

from lkdn_deploy.graph.conv import ConvNode, insert_conv, match_conv
from lkdn_deploy.graph.ir_utils import (
    Outcome,
    channel_count,
    concatenates_channels,
    insert_before,
    replace_value,
    rewrite_nodes,
    sole_consumer,
)


def split_concat_conv(graph: ir.Graph) -> Outcome:
    """Split each ``Concat`` over channels that a pointwise convolution alone takes."""

    def split(node: ir.Node) -> bool | str:
        if not concatenates_channels(node):
            return False
        conv = match_conv(sole_consumer(node.outputs[0]))
        if conv is None or not conv.pointwise:
            return "it is not for one pointwise convolution alone"
        parts = [(value, channel_count(value) or 0) for value in node.inputs if value is not None]
        if not all(width for _, width in parts) or sum(width for _, width in parts) != conv.weight.shape[1]:
            return "the number of channels of its tensors is not known"
        replace_value(conv.result, _sum_of_convs(graph, conv, parts))
        return True

    return rewrite_nodes(graph, split)


def _sum_of_convs(graph: ir.Graph, conv: ConvNode, parts: list[tuple[ir.Value, int]]) -> ir.Value:
    """Insert a convolution for each tensor and its number of channels, and return their sum."""
    name, bias, start = f"{conv.result.name}.part", conv.bias, 0
    total: list[ir.Value] = []
    for value, width in parts:
        before = _first_node_after(graph, [value, *total])
        part = insert_conv(before, value, conv.weight[:, start : start + width], bias, name=name)
        total = [insert_before(before, "Add", [*total, part])] if total else [part]
        bias, start = None, start + width
    return total[0]


def _first_node_after(graph: ir.Graph, values: list[ir.Value]) -> ir.Node:
    """Return the first node of the graph behind all that make ``values``."""
    waiting = {maker for value in values if (maker := value.producer()) is not None}
    for node in graph:
        if not waiting:
            return node
        waiting.discard(node)
    raise ValueError("nothing takes these values")  # noqa: EM101  (unreachable: the concatenation does)

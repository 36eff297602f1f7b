"""A pointwise convolution of concatenated tensors, as the sum of one of each: the concatenation is never made.

W [a; b; c] = Wa a + Wb b + Wc c. Engines add while they convolve, so the sums cost no pass over memory of their own;
and each is taken as soon as its tensor is there, so that the tensors need not all be kept until the last.
"""

import onnx_ir as ir

from lkdn_deploy.graph.conv import Convolution, convolution, put_convolution
from lkdn_deploy.graph.ir_utils import Outcome, channels, integer, only_user, put, replace


def split_concat_conv(graph: ir.Graph) -> Outcome:
    """Take apart each ``Concat`` over channels that a pointwise convolution alone takes."""
    applied, refused = 0, []
    for node in list(graph):
        if node.op_type != "Concat" or integer(node, "axis", 0) != 1 or len(node.inputs) < 2:
            continue
        found = convolution(only_user(node.outputs[0]))
        if found is None or not found.pointwise:
            refused.append(f"{node.name}: it is not for one pointwise convolution alone")
            continue
        parts = [(value, channels(value)) for value in node.inputs if value is not None]
        known = [(value, width) for value, width in parts if width is not None]
        if len(known) != len(node.inputs) or sum(width for _, width in known) != found.weight.shape[1]:
            refused.append(f"{node.name}: how many channels each of its tensors has is not known")
            continue
        replace(found.result, _sum(graph, found, known))
        applied += 1
    return Outcome(applied, tuple(refused))


def _sum(graph: ir.Graph, found: Convolution, parts: list[tuple[ir.Value, int]]) -> ir.Value:
    name, bias, start = str(found.result.name), found.bias, 0
    sums: list[ir.Value] = []
    for value, width in parts:
        before = _first_after(graph, [value, *sums])
        weight = found.weight[:, start : start + width]
        part = put_convolution(before, value, weight, bias, name=f"{name}.part")
        sums = [put(before, "Add", [*sums, part])] if sums else [part]
        bias, start = None, start + width
    return sums[0]


def _first_after(graph: ir.Graph, values: list[ir.Value]) -> ir.Node:
    """The first node of the graph behind all that make ``values``."""
    waiting = {maker for value in values if (maker := value.producer()) is not None}
    for node in graph:
        if not waiting:
            return node
        waiting.discard(node)
    raise ValueError("nothing takes these values")  # noqa: EM101  (the concatenation does)

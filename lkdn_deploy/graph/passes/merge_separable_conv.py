"""Merge a pointwise convolution and the depthwise convolution behind it into one dense convolution.

On RGB it costs 27 multiplications for each value instead of 3 + 9, but no tensor between the two: memory traffic costs
more than arithmetic here. With more channels it costs nearly nine times the multiplications, which may pay off only
where special units multiply matrices and depthwise convolutions cannot use them, as on GPUs. At the border it is exact
only if the pointwise convolution has no bias: then its result is zero where its input is, outside the image too, which
is how the depthwise convolution pads it.
"""

from functools import partial

import onnx_ir as ir

from lkdn_deploy.graph.conv import insert_conv, match_conv
from lkdn_deploy.graph.ir_utils import Outcome, replace_value, rewrite_nodes, sole_consumer

MAX_CHANNELS = 4
"""Largest number of input channels of which ``merge_separable_conv`` merges a pair."""


def merge_separable_conv(graph: ir.Graph) -> Outcome:
    """Merge each such pair that takes at most ``MAX_CHANNELS`` channels."""
    return rewrite_nodes(graph, partial(_merge, most=MAX_CHANNELS))


def merge_wide_separable_conv(graph: ir.Graph) -> Outcome:
    """Merge each such pair of any number of channels."""
    return rewrite_nodes(graph, partial(_merge, most=1 << 16))


def _merge(node: ir.Node, most: int) -> bool | str:
    first = match_conv(node)
    if first is None or not first.pointwise or first.weight.shape[1] > most:
        return False
    second = match_conv(sole_consumer(first.result))
    if second is None or not second.depthwise:
        return False
    if first.bias is not None and first.bias.any() and any(second.padding):
        return "its bias would reach past the border"
    if set(second.strides) != {1} or set(second.dilations) != {1}:
        return "the depthwise convolution behind it has strides or dilations"
    weight = second.weight * first.matrix[:, :, None, None]
    bias = second.bias
    if first.bias is not None:
        carried = first.bias * second.weight.sum(axis=(1, 2, 3))
        bias = carried if bias is None else bias + carried
    name = f"{second.result.name}.dense"
    merged = insert_conv(second.node, first.source, weight, bias, name=name, padding=second.padding)
    replace_value(second.result, merged)
    return True

"""Norms over the channels of each pixel, found in a graph as exporters write them: between two transpositions."""

from dataclasses import dataclass

import onnx_ir as ir

from lkdn_deploy.graph.ir_utils import Array, integer, integers, only_user, weights

NORMS = ("LayerNormalization", "RMSNormalization")


@dataclass(frozen=True, slots=True)
class ChannelNorm:
    """Over axis 1 of (N, C, H, W).

    LayerNorm: y = (x - mean x) / sqrt(var x + epsilon) * weight + bias;
    RMSNorm: y = x / sqrt(mean x^2 + epsilon) * weight.
    """

    source: ir.Value
    result: ir.Value
    first: ir.Node
    """The transposition before it."""
    node: ir.Node
    """The norm itself."""
    weight: Array
    """(C,)."""
    bias: Array | None
    epsilon: float


def channel_norm(node: ir.Node) -> ChannelNorm | None:
    """The norm that ``node``, a ``LayerNormalization`` or ``RMSNormalization``, is the middle of."""
    if node.op_type not in NORMS or len(node.outputs) != 1 or integer(node, "axis", -1) not in (-1, 3):
        return None
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    after = only_user(node.outputs[0])
    if before is None or after is None or only_user(before.outputs[0]) is not node:
        return None
    weight = weights(node.inputs[1])
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = weights(node.inputs[2]) if has_bias else None
    source = before.inputs[0] if before.op_type == after.op_type == "Transpose" else None
    if source is None or weight is None or weight.ndim != 1 or (has_bias and bias is None):
        return None
    if integers(before, "perm", ()) != (0, 2, 3, 1) or integers(after, "perm", ()) != (0, 3, 1, 2):
        return None
    epsilon = node.attributes.get("epsilon")
    return ChannelNorm(
        source, after.outputs[0], before, node, weight, bias, epsilon.as_float() if epsilon is not None else 1e-5
    )

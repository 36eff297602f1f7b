"""Norms over the channels of each pixel, as exporters write them: between two transpositions."""

from dataclasses import dataclass

import onnx_ir as ir

from lkdn_deploy.graph.ir_utils import Array, sole_consumer, weight_and_bias

NORMS = ("LayerNormalization", "RMSNormalization")


@dataclass(frozen=True, slots=True)
class ChannelNorm:
    """A norm over axis 1 of ``source`` (N, C, H, W), with ``weight`` and ``bias`` (C,).

    LayerNorm: y = (x - mean x) / sqrt(var x + epsilon) * weight + bias;
    RMSNorm: y = x / sqrt(mean x^2 + epsilon) * weight.
    """

    source: ir.Value
    result: ir.Value
    transposition: ir.Node
    """The transposition to (N, H, W, C) in front of the norm."""
    node: ir.Node
    """The norm itself."""
    weight: Array
    bias: Array | None
    epsilon: float


def match_channel_norm(node: ir.Node) -> ChannelNorm | None:
    """Return the norm over channels whose middle is ``node``, a ``LayerNormalization`` or ``RMSNormalization``."""
    attributes = node.attributes
    if node.op_type not in NORMS or len(node.outputs) != 1 or attributes.get_int("axis", -1) not in (-1, 3):
        return None
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    after = sole_consumer(node.outputs[0])
    if before is None or after is None or sole_consumer(before.outputs[0]) is not node:
        return None
    constants = weight_and_bias(node)
    source = before.inputs[0] if before.op_type == after.op_type == "Transpose" else None
    if source is None or constants is None or constants[0].ndim != 1:
        return None
    orders = [tuple(each.attributes.get_ints("perm", ())) for each in (before, after)]
    if orders != [(0, 2, 3, 1), (0, 3, 1, 2)]:
        return None
    return ChannelNorm(source, after.outputs[0], before, node, *constants, attributes.get_float("epsilon", 1e-5))

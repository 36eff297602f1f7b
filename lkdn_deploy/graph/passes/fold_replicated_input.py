"""Fold the concatenation of copies of one tensor into the convolution behind it, which then reads the tensor once.

LKDN and BSRN take four copies of the image: W [x; x; x; x] = (W1 + W2 + W3 + W4) x, borders included.
"""

import onnx_ir as ir

from lkdn_deploy.graph.conv import match_conv
from lkdn_deploy.graph.ir_utils import Outcome, concatenates_channels, rewrite_nodes, sole_consumer


def fold_replicated_input(graph: ir.Graph) -> Outcome:
    """Fold each ``Concat`` of a tensor with itself into the ungrouped convolution that alone takes it."""
    return rewrite_nodes(graph, _fold)


def _fold(node: ir.Node) -> bool | str:
    if not concatenates_channels(node) or len(set(node.inputs)) > 1:
        return False
    conv = match_conv(sole_consumer(node.outputs[0]))
    if conv is None or conv.groups != 1:
        return "its copies are not for one ungrouped convolution alone"
    out, channels, *kernel = conv.weight.shape
    copies = len(node.inputs)
    conv.set_weights(conv.weight.reshape(out, copies, channels // copies, *kernel).sum(axis=1), conv.bias)
    conv.node.replace_input_with(0, node.inputs[0])
    return True

"""Copies of one tensor side by side, taken by a convolution: the sum of its columns takes the tensor once.

LKDN and BSRN are given four copies of the image: W [x; x; x; x] = (W1 + W2 + W3 + W4) x, borders included.
"""

import onnx_ir as ir

from lkdn_deploy.graph.conv import convolution, set_weights
from lkdn_deploy.graph.ir_utils import Outcome, integer, only_user


def fold_replicated_input(graph: ir.Graph) -> Outcome:
    """Fold each ``Concat`` of a tensor with itself into the convolutions that take it."""
    applied, refused = 0, []
    for node in list(graph):
        copies = set(node.inputs)
        if node.op_type != "Concat" or len(node.inputs) < 2 or len(copies) > 1 or integer(node, "axis", 0) != 1:
            continue
        found = convolution(only_user(node.outputs[0]))
        if found is None or found.groups != 1:
            refused.append(f"{node.name}: its copies are not for one ungrouped convolution alone")
            continue
        out, channels, *kernel = found.weight.shape
        count = len(node.inputs)
        set_weights(found, found.weight.reshape(out, count, channels // count, *kernel).sum(axis=1), found.bias)
        found.node.replace_input_with(0, node.inputs[0])
        applied += 1
    return Outcome(applied, tuple(refused))

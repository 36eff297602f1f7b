"""A constant added to every pixel, carried along until convolutions take it into their biases.

A pointwise convolution of x + c is that of x with the bias more by W c. (One that pads is not: the zeros around the
image are not shifted.) On the way, sums hand the constant on.
"""

import numpy as np
import onnx_ir as ir

from lkdn_deploy.graph.conv import convolution, set_weights
from lkdn_deploy.graph.ir_utils import Array, Outcome, channels, replace, weights


def fold_shift(graph: ir.Graph) -> Outcome:
    """Take away each addition of a constant per channel whose way ends in pointwise convolutions only."""
    applied, refused = 0, []
    for node in list(graph):
        found = _shift(node)
        if found is None:
            continue
        source, constant = found
        biases: dict[ir.Node, Array] = {}
        reason = _carry(node.outputs[0], constant, biases)
        if reason:
            refused.append(f"{node.name}: {reason}")
            continue
        for taker, more in biases.items():
            conv = convolution(taker)
            assert conv is not None  # noqa: S101  (``_carry`` saw it)
            set_weights(conv, conv.weight, more if conv.bias is None else conv.bias + more)
        replace(node.outputs[0], source)
        applied += 1
    return Outcome(applied, tuple(refused))


def _shift(node: ir.Node) -> tuple[ir.Value, Array] | None:
    """What an ``Add`` adds a constant (C,) to, and the constant."""
    if node.op_type != "Add":
        return None
    for source, other in (node.inputs, reversed(node.inputs)):
        constant = weights(other)
        if source is not None and constant is not None and constant.ndim == 4:
            flat = constant.reshape(-1)
            if constant.shape == (1, len(flat), 1, 1) and weights(source) is None:
                return source, flat
    return None


def _carry(value: ir.Value, constant: Array, biases: dict[ir.Node, Array]) -> str:
    """Gather what convolutions must add if ``value`` lacks ``constant``; give the reason if something else takes it."""
    if value.is_graph_output():
        return "it reaches the output"
    for use in value.uses():
        conv = convolution(use.node)
        if conv is not None and conv.pointwise and use.idx == 0:
            biases[use.node] = biases.get(use.node, np.zeros(len(conv.weight))) + conv.matrix() @ constant
        elif use.node.op_type == "Add" and all(each is not None and _alike(each, value) for each in use.node.inputs):
            if reason := _carry(use.node.outputs[0], constant, biases):
                return reason
        else:
            return f"{use.node.op_type} {use.node.name} takes what it gives"
    return ""


def _alike(one: ir.Value, other: ir.Value) -> bool:
    """Whether adding the two makes no more channels than ``other`` has."""
    return weights(one) is not None or (channels(one) is not None and channels(one) == channels(other))

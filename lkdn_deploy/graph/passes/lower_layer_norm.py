"""Lower LayerNorm over channels to a root-mean-square scale, in a form that needs no change of layout.

With P = I - 11'/C, the mean of P x is zero and its variance is its mean square, so LayerNorm(x) = RMSNorm(P x). P folds
into the pointwise convolution that makes x, if one does, and is one more convolution otherwise. The rest is written in
one of three ways:

- as convolutions: the square, a pointwise convolution to one channel (the mean, with epsilon as its bias), the inverse
  square root, a pointwise convolution back to all channels (the norm's weight), and a product. ONNX Runtime has kernels
  for all of these in its blocked layout, where a transposition would cost a pass over memory;
- as ``RMSNormalization`` between two transpositions, which cost nothing in OpenVINO's channels-last layout;
- as a sum of squares over axis 1, a root and a quotient, which TensorRT fuses into one kernel. It makes transpositions
  kernels of their own. The sum is not divided by C, so that channels of zeros do not change it (``pad_channels``).

The norm's bias becomes the addition of a constant, which ``fold_shift`` can remove.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from lkdn_deploy.graph.channel_norm import ChannelNorm, match_channel_norm
from lkdn_deploy.graph.conv import insert_conv, match_conv
from lkdn_deploy.graph.ir_utils import (
    Outcome,
    add_initializer,
    insert_before,
    replace_value,
    rewrite_nodes,
    sole_consumer,
)

RMS_OPSET = 23
"""The opset that introduced ``RMSNormalization``."""


def layer_norm_to_conv(graph: ir.Graph) -> Outcome:
    """Lower each LayerNorm over channels to convolutions and elementwise operators."""
    return _lower_all(graph, _as_convs)


def layer_norm_to_rms(graph: ir.Graph) -> Outcome:
    """Lower each LayerNorm over channels to ``RMSNormalization``.

    Raises:
        ValueError: if the graph's opset is older than ``RMS_OPSET``.
    """
    if graph.opset_imports.get("", 0) < RMS_OPSET:
        msg = f"RMSNormalization needs opset {RMS_OPSET}"
        raise ValueError(msg)
    return _lower_all(graph, _as_operator)


def layer_norm_to_sum(graph: ir.Graph) -> Outcome:
    """Lower each LayerNorm over channels to x / sqrt(sum x^2 + C * epsilon) * (sqrt(C) * weight)."""
    return _lower_all(graph, _as_sum)


def _lower_all(graph: ir.Graph, scale: Callable[[ir.Graph, ChannelNorm, ir.Value], ir.Value]) -> Outcome:
    def lower(node: ir.Node) -> bool | str:
        if node.op_type != "LayerNormalization":
            return False
        norm = match_channel_norm(node)
        if norm is None:
            return "not over the channels of (N, C, H, W) with constant weights"
        result = scale(graph, norm, _centred(norm))
        if norm.bias is not None and norm.bias.any():
            shift = add_initializer(graph, f"{norm.result.name}.shift", norm.bias[None, :, None, None])
            result = insert_before(norm.transposition, "Add", [result, shift])
        replace_value(norm.result, result)
        return True

    return rewrite_nodes(graph, lower)


def _centred(norm: ChannelNorm) -> ir.Value:
    """Return the norm's source less its mean over channels."""
    channels = len(norm.weight)
    less_mean = np.eye(channels) - 1 / channels
    conv = match_conv(norm.source.producer())
    if conv is not None and conv.pointwise and sole_consumer(norm.source) is norm.transposition:
        weight = np.einsum("oi,ijhw->ojhw", less_mean, conv.weight)
        conv.set_weights(weight, None if conv.bias is None else less_mean @ conv.bias)
        return norm.source
    weight = less_mean[:, :, None, None]
    return insert_conv(norm.transposition, norm.source, weight, None, name=f"{norm.source.name}.centred")


def _as_convs(_graph: ir.Graph, norm: ChannelNorm, centred: ir.Value) -> ir.Value:
    name, before, channels = norm.result.name, norm.transposition, len(norm.weight)
    square = insert_before(before, "Mul", [centred, centred])
    mean = np.full((1, channels, 1, 1), 1 / channels)
    variance = insert_conv(before, square, mean, np.array([norm.epsilon]), name=f"{name}.mean")
    scale = insert_before(before, "Reciprocal", [insert_before(before, "Sqrt", [variance])])
    spread = insert_conv(before, scale, norm.weight[:, None, None, None], None, name=f"{name}.scale")
    return insert_before(before, "Mul", [centred, spread])


def _as_operator(graph: ir.Graph, norm: ChannelNorm, centred: ir.Value) -> ir.Value:
    before = norm.transposition
    weight = add_initializer(graph, f"{norm.result.name}.weight", norm.weight)
    last = insert_before(before, "Transpose", [centred], {"perm": [0, 2, 3, 1]})
    normed = insert_before(before, "RMSNormalization", [last, weight], {"axis": -1, "epsilon": norm.epsilon})
    return insert_before(before, "Transpose", [normed], {"perm": [0, 3, 1, 2]})


def _as_sum(graph: ir.Graph, norm: ChannelNorm, centred: ir.Value) -> ir.Value:
    name, before, channels = norm.result.name, norm.transposition, len(norm.weight)
    axis = add_initializer(graph, f"{name}.axis", np.array([1]), np.int64)
    epsilon = add_initializer(graph, f"{name}.epsilon", np.array(channels * norm.epsilon))
    weight = add_initializer(graph, f"{name}.weight", channels**0.5 * norm.weight[None, :, None, None])
    square = insert_before(before, "Mul", [centred, centred])
    total = insert_before(before, "ReduceSum", [square, axis], {"keepdims": 1})
    length = insert_before(before, "Sqrt", [insert_before(before, "Add", [total, epsilon])])
    return insert_before(before, "Mul", [insert_before(before, "Div", [centred, length]), weight])

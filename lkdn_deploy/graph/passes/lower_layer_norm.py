"""LayerNorm over channels as a root-mean-square scale, in a form that needs no other layout.

With P = I - 11'/C, the mean of P x is zero and its variance the mean square, so LayerNorm(x) = RMSNorm(P x). P goes
into the pointwise convolution that makes x, where one does, and costs nothing then; else it is one more. What is left
is written for the engine:

- ``convolutions``: the square, a pointwise convolution to one channel (the mean, with epsilon as its bias), the square
  root's inverse, a pointwise convolution back to all channels (the norm's weight), and a product. Nothing but what
  ONNX Runtime has kernels for in its blocked layout, in which a transposition costs a pass over memory;
- ``operator``: ``RMSNormalization`` between two transpositions, which in OpenVINO's channels-last layout are none.

The norm's bias becomes an addition of a constant, for ``fold_shift`` to take away.
"""

from typing import Literal

import numpy as np
import onnx_ir as ir

from lkdn_deploy.graph.conv import convolution, put_convolution, set_weights
from lkdn_deploy.graph.ir_utils import Outcome, only_user, put, put_weights, replace
from lkdn_deploy.graph.norms import ChannelNorm, channel_norm

Form = Literal["convolutions", "operator"]


def rms_norm(graph: ir.Graph, form: Form) -> Outcome:
    """Lower each LayerNorm over channels to ``form``."""
    if form == "operator" and graph.opset_imports.get("", 0) < 23:
        raise ValueError("RMSNormalization is of opset 23")  # noqa: EM101  (a mistake of this package)
    applied, refused = 0, []
    for node in list(graph):
        if node.op_type != "LayerNormalization":
            continue
        norm = channel_norm(node)
        if norm is None:
            refused.append(f"{node.name}: not over the channels of (N, C, H, W) with constant weights")
            continue
        _lower(graph, norm, form)
        applied += 1
    return Outcome(applied, tuple(refused))


def _lower(graph: ir.Graph, norm: ChannelNorm, form: Form) -> None:
    name, before, channels = str(norm.result.name), norm.first, len(norm.weight)
    centred = _centred(norm)
    if form == "operator":
        last = put(before, "Transpose", [centred], {"perm": [0, 2, 3, 1]})
        weight = put_weights(graph, f"{name}.weight", norm.weight)
        normed = put(before, "RMSNormalization", [last, weight], {"axis": -1, "epsilon": norm.epsilon})
        result = put(before, "Transpose", [normed], {"perm": [0, 3, 1, 2]})
    else:
        square = put(before, "Mul", [centred, centred])
        mean = np.full((1, channels, 1, 1), 1 / channels)
        variance = put_convolution(before, square, mean, np.array([norm.epsilon]), name=f"{name}.mean")
        scale = put(before, "Reciprocal", [put(before, "Sqrt", [variance])])
        spread = put_convolution(before, scale, norm.weight[:, None, None, None], None, name=f"{name}.scale")
        result = put(before, "Mul", [centred, spread])
    if norm.bias is not None and norm.bias.any():
        shift = put_weights(graph, f"{name}.shift", norm.bias[None, :, None, None])
        result = put(before, "Add", [result, shift])
    replace(norm.result, result)


def _centred(norm: ChannelNorm) -> ir.Value:
    """The source less its mean."""
    channels = len(norm.weight)
    less_mean = np.eye(channels) - 1 / channels
    made = convolution(norm.source.producer())
    if made is not None and made.pointwise and only_user(norm.source) is norm.first:
        weight = np.einsum("oi,ijhw->ojhw", less_mean, made.weight)
        set_weights(made, weight, None if made.bias is None else less_mean @ made.bias)
        return norm.source
    weight = less_mean[:, :, None, None]
    return put_convolution(norm.first, norm.source, weight, None, name=f"{norm.source.name}.centred")


def as_convolutions(graph: ir.Graph) -> Outcome:
    """``rms_norm`` in the form ``convolutions``."""
    return rms_norm(graph, "convolutions")


def as_operator(graph: ir.Graph) -> Outcome:
    """``rms_norm`` in the form ``operator``."""
    return rms_norm(graph, "operator")

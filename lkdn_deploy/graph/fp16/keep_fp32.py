"""Rules that choose the nodes that must stay in FP32 when the rest of a graph becomes FP16."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from lkdn_deploy.graph.fp16.ranges import FP16_MAX, Ranges
from lkdn_deploy.graph.fp16.types import FLOAT, data_inputs

MAX_VALUE = FP16_MAX / 8
"""Largest value that a tensor in FP16 may take on the inputs that are tried; the margin is for all other inputs."""

MIN_PEAK = 2.0**-14
"""Least value that the maximum of a tensor in FP16 may be: FP16 holds smaller numbers with fewer than 11 bits."""

MAX_ROUNDING = 2.0**-10
"""Largest relative error, in the 2-norm, of each output channel's weights or of each value of a factor. Rounding to
11 bits gives at most 2^-11; only numbers below 2^-14, which lose more bits, can exceed this."""


class Reason(StrEnum):
    """The reason why a node stays in FP32."""

    STATISTICS = "statistics"
    """It is a norm, or a sum over as many values as a picture has, or computes what such sums are made of or used for:
    deviations, squares, roots, quotients."""
    EXPONENTIALS = "exponentials"
    """It is a sum of exponentials."""
    WEIGHTS = "weights"
    """A weight is larger than FP16 can hold, or its weights lose too many bits."""
    RANGE = "range"
    """A value that it takes or gives comes too near the end of FP16."""
    FAINT = "faint"
    """All values of a tensor that it takes or gives are so small that FP16 drops bits of them."""


_NORMS = {
    "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LpNormalization",
    "MeanVarianceNormalization", "RMSNormalization",
}  # fmt: skip
_SUMS = {
    "GlobalAveragePool", "GlobalLpPool", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
}  # fmt: skip
_EXPONENTIALS = {"LogSoftmax", "Softmax"}
_BEFORE_SUMS = {"Abs", "Pow", "Sqrt", "Sub"}
"""Operators that deviations and their powers are computed with."""
_AFTER_SUMS = {"Abs", "Add", "Div", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt", "Sub"}
"""Operators that are applied to sums alone: a root, a mean plus a deviation, an epsilon."""
_ADDENDS = {("Add", 0), ("Add", 1), ("Sub", 0), ("Sub", 1), ("Conv", 2), ("ConvTranspose", 2), ("Gemm", 2)}
"""Operands that are added: their error counts relative to the sum, not to themselves."""


def find_kept_nodes(model: onnx.ModelProto, floats: frozenset[str], ranges: Ranges) -> dict[int, Reason]:
    """Return the positions in the graph of the nodes that stay in FP32, and the first reason that applies to each.

    Args:
        model: a graph in FP32, its nodes in topological order.
        floats: the names of its float32 tensors, see ``float_names``.
        ranges: the values that its tensors take. Tensors that are missing give no reason.
    """
    nodes = model.graph.node
    weights = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.data_type == FLOAT
    }
    statistics = _find_statistics(nodes, weights)
    kept = {}
    for position, node in enumerate(nodes):
        if not any(name in floats for name in node.output):
            continue
        if position in statistics:
            reason: Reason | None = Reason.STATISTICS
        elif node.op_type in _EXPONENTIALS:
            reason = Reason.EXPONENTIALS
        elif _loses_weights(node, weights):
            reason = Reason.WEIGHTS
        else:
            reason = _check_range((*data_inputs(node), *node.output), ranges)
        if reason:
            kept[position] = reason
    return kept


def _find_statistics(nodes: Sequence[onnx.NodeProto], weights: Collection[str]) -> set[int]:
    maker = {name: position for position, node in enumerate(nodes) for name in node.output}
    found = {position for position, node in enumerate(nodes) if node.op_type in _NORMS | _SUMS}
    queue = [position for position in found if nodes[position].op_type in _SUMS]
    while queue:
        for name in nodes[queue.pop()].input[:1]:
            position = maker.get(name)
            if position is not None and position not in found and _makes_deviations(nodes[position]):
                found.add(position)
                queue.append(position)
    sums = {name for position in found if nodes[position].op_type in _SUMS for name in nodes[position].output}
    for position, node in enumerate(nodes):
        operands = [name for name in node.input if name and name not in weights]
        if node.op_type in _AFTER_SUMS and operands and sums.issuperset(operands):
            found.add(position)
            sums.update(node.output)
        elif node.op_type == "Div" and node.input[1] in sums:  # a root is small wherever a picture is flat
            found.add(position)
    return found


def _makes_deviations(node: onnx.NodeProto) -> bool:
    is_square = node.op_type == "Mul" and node.input[0] == node.input[1]
    return is_square or node.op_type in _BEFORE_SUMS


def _loses_weights(node: onnx.NodeProto, weights: Mapping[str, NDArray[np.float32]]) -> bool:
    for position, name in enumerate(node.input):
        if name not in weights or name not in data_inputs(node):
            continue
        values = weights[name].astype(np.float64)
        if not (np.abs(values) <= FP16_MAX).all():
            return True
        if (node.op_type, position) not in _ADDENDS and _rounding_error(values) > MAX_ROUNDING:
            return True
    return False


def _rounding_error(values: NDArray[np.float64]) -> float:
    """Return the largest relative error of a row in FP16. Rows are along the first axis of two or more, else values."""
    rows = values.reshape(len(values), -1) if values.ndim > 1 and values.size else values.reshape(-1, 1)
    norms = np.linalg.norm(rows, axis=1)
    errors = np.linalg.norm(rows.astype(np.float16).astype(np.float64) - rows, axis=1)
    return float(np.max(errors[norms > 0] / norms[norms > 0], initial=0.0))


def _check_range(names: tuple[str, ...], ranges: Ranges) -> Reason | None:
    known = [ranges[name] for name in names if name in ranges]
    if any(item.largest > MAX_VALUE for item in known):
        return Reason.RANGE
    if any(0 < item.largest < MIN_PEAK for item in known):
        return Reason.FAINT
    return None

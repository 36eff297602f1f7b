"""Which nodes of a graph must stay in FP32 when the rest becomes FP16, and why: rules, no names of nodes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from lkdn_deploy.graph.fp16.ranges import MOST, Ranges
from lkdn_deploy.graph.fp16.types import FLOAT, data_inputs

LIMIT = MOST / 8
"""The largest value that a tensor in FP16 may have been seen to take: the inputs it was seen on are few."""

FAINT = 2.0**-14
"""The least value that the largest of a tensor in FP16 may be: below it FP16 has fewer than 11 bits."""

LOSS = 2.0**-10
"""The largest relative error, in the 2-norm, of what is multiplied: of each output channel's weights, or of each value
of a factor. Rounding alone gives at most 2^-11: only values below 2^-14, of which FP16 drops bits, can exceed it."""


class Reason(StrEnum):
    """Why a node stays in FP32."""

    STATISTICS = "statistics"
    """It is a norm, or sums over as many values as a picture has, or makes or takes such sums: squares, roots."""
    EXPONENTIALS = "exponentials"
    """It is a sum of exponentials."""
    WEIGHTS = "weights"
    """A weight is beyond FP16, or too many bits of weights are."""
    RANGE = "range"
    """A value that it takes or gives is too near the end of FP16."""
    FAINT = "faint"
    """All values that it takes or gives in one place are so small that FP16 drops bits of them."""


@dataclass(frozen=True, slots=True)
class Island:
    """A node in FP32."""

    node: str
    """Its name, or that of its first output if it has none."""
    op_type: str
    reason: Reason


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
"""What deviations and their powers are made with."""
_AFTER_SUMS = {"Abs", "Add", "Div", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt", "Sub"}
"""What is made of sums alone: a root, a mean plus a deviation, an epsilon."""
_ADDED = {("Add", 0), ("Add", 1), ("Sub", 0), ("Sub", 1), ("Conv", 2), ("ConvTranspose", 2), ("Gemm", 2)}
"""Operands that are added: their error counts against the sum, not against themselves."""


def find_islands(model: onnx.ModelProto, floats: frozenset[str], ranges: Ranges) -> dict[int, Island]:
    """The nodes that stay in FP32, by their place in ``model.graph.node``; the first reason that there is.

    Args:
        model: a graph in FP32, its nodes in topological order.
        floats: as of ``float_names``.
        ranges: the values that tensors take; of those that are missing nothing is said.
    """
    nodes = model.graph.node
    weights = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.data_type == FLOAT
    }
    statistics = _statistics(nodes, weights)
    islands = {}
    for place, node in enumerate(nodes):
        if not any(name in floats for name in node.output):
            continue
        if place in statistics:
            reason = Reason.STATISTICS
        elif node.op_type in _EXPONENTIALS:
            reason = Reason.EXPONENTIALS
        elif _loses_weights(node, weights):
            reason = Reason.WEIGHTS
        elif found := _out_of_range((*data_inputs(node), *node.output), ranges):
            reason = found
        else:
            continue
        islands[place] = Island(node.name or node.output[0], node.op_type, reason)
    return islands


def subnormal(values: NDArray[np.float32]) -> int:
    """How many values FP16 holds with fewer than 11 bits, or not at all, being too small."""
    return int(np.count_nonzero((np.abs(values) < FAINT) & (values != 0)))


def _statistics(nodes: Sequence[onnx.NodeProto], weights: Collection[str]) -> set[int]:
    maker = {name: place for place, node in enumerate(nodes) for name in node.output}
    found = {place for place, node in enumerate(nodes) if node.op_type in _NORMS | _SUMS}
    ahead = [place for place in found if nodes[place].op_type in _SUMS]
    while ahead:
        for name in nodes[ahead.pop()].input[:1]:
            place = maker.get(name)
            if place is not None and place not in found and _makes_deviations(nodes[place]):
                found.add(place)
                ahead.append(place)
    sums = {name for place in found if nodes[place].op_type in _SUMS for name in nodes[place].output}
    for place, node in enumerate(nodes):
        operands = [name for name in node.input if name and name not in weights]
        if node.op_type in _AFTER_SUMS and operands and sums.issuperset(operands):
            found.add(place)
            sums.update(node.output)
    return found


def _makes_deviations(node: onnx.NodeProto) -> bool:
    is_square = node.op_type == "Mul" and node.input[0] == node.input[1]
    return is_square or node.op_type in _BEFORE_SUMS


def _loses_weights(node: onnx.NodeProto, weights: Mapping[str, NDArray[np.float32]]) -> bool:
    for position, name in enumerate(node.input):
        if name not in weights or name not in data_inputs(node):
            continue
        values = weights[name].astype(np.float64)
        if not (np.abs(values) <= MOST).all():
            return True
        if (node.op_type, position) not in _ADDED and _loss(values) > LOSS:
            return True
    return False


def _loss(values: NDArray[np.float64]) -> float:
    """The largest relative error of a row in FP16; rows are the first axis, of less than two axes each value."""
    rows = values.reshape(len(values) if values.ndim > 1 else -1, max(1, values[:1].size if values.ndim > 1 else 1))
    norms = np.linalg.norm(rows, axis=1)
    errors = np.linalg.norm(rows.astype(np.float16).astype(np.float64) - rows, axis=1)
    return float(np.max(errors[norms > 0] / norms[norms > 0], initial=0.0))


def _out_of_range(names: tuple[str, ...], ranges: Ranges) -> Reason | None:
    known = [ranges[name] for name in names if name in ranges]
    if any(item.largest > LIMIT for item in known):
        return Reason.RANGE
    if any(0 < item.largest < FAINT for item in known):
        return Reason.FAINT
    return None

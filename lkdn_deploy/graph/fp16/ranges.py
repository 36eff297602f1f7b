"""The magnitudes that a network's values reach, which FP16 must hold: it ends at 65504."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from lkdn_deploy.graph.fp16.types import FLOAT, float_names

FP16_MAX = float(np.finfo(np.float16).max)
"""65504."""


@dataclass(frozen=True, slots=True)
class Range:
    """The largest absolute value of a tensor, over several inputs of the network."""

    largest: float
    """Over all inputs."""
    least: float
    """On the input on which it is smallest, of those on which the tensor is not zero throughout; 0 if it always is."""

    def scaled(self, factor: float) -> "Range":
        """Return the range of the tensor times ``factor`` > 0."""
        return Range(self.largest * factor, self.least * factor)


Ranges = Mapping[str, Range]
"""Ranges by tensor name."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest absolute value that a network holds in FP16."""

    tensor: str
    value: float

    @property
    def margin(self) -> float:
        """The ratio of the largest FP16 number to it."""
        return FP16_MAX / self.value if self.value else float("inf")


def expose_maxima(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return a model with the same input that outputs max |x| of each float32 tensor x, and the tensors' names.

    The tensors are inputs and results of nodes, not weights. The maxima are scalars, in the order of the names: all
    tensors of a network together can take gigabytes, so that only their maxima leave the graph.
    """
    floats = float_names(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.node[:], graph.output[:], graph.value_info[:]
    names = []

    def measure(name: str) -> None:
        if name not in floats:
            return
        absolute, largest = f"{name}|abs", f"{name}|max"
        # Directly behind the node, so that the engine can free the tensor early.
        graph.node.append(helper.make_node("Abs", [name], [absolute]))
        graph.node.append(helper.make_node("ReduceMax", [absolute], [largest], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(largest, FLOAT, []))
        names.append(name)

    for value in model.graph.input:
        measure(value.name)
    for node in model.graph.node:
        graph.node.append(node)
        for name in node.output:
            measure(name)
    return result, tuple(names)


def gather_ranges(names: Sequence[str], maxima: Sequence[Sequence[float]]) -> dict[str, Range]:
    """Return ranges from what the model of ``expose_maxima`` computed.

    ``maxima`` has a row for each input of the network; a maximum that is not finite counts as infinite.
    """
    table = np.asarray(maxima, np.float64)
    table[~np.isfinite(table)] = np.inf
    least = np.where(table > 0, table, np.inf).min(axis=0)
    return {
        name: Range(float(largest), float(low) if largest else 0.0)
        for name, largest, low in zip(names, table.max(axis=0), least, strict=True)
    }


def find_peak(names: Collection[str], ranges: Ranges) -> Peak | None:
    """Return the largest of the tensors ``names``, or ``None`` if the range of none is known."""
    known = sorted(name for name in names if name in ranges)
    if not known:
        return None
    tensor = max(known, key=lambda name: ranges[name].largest)
    return Peak(tensor, ranges[tensor].largest)

"""How large the values of a network become: what FP16, which ends at 65504, must hold."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from lkdn_deploy.graph.fp16.types import FLOAT, float_names

MOST = float(np.finfo(np.float16).max)
"""65504."""


@dataclass(frozen=True, slots=True)
class Range:
    """The largest absolute value of one tensor, over inputs."""

    largest: float
    """Of all inputs."""
    least: float
    """Of the input where the tensor's largest value is the least, of those where it is not zero throughout; 0 if it is
    in all."""

    def scaled(self, factor: float) -> "Range":
        """Of the tensor times ``factor`` > 0."""
        return Range(self.largest * factor, self.least * factor)


Ranges = Mapping[str, Range]
"""By tensor name."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest absolute value that FP16 has to hold in a network."""

    tensor: str
    value: float

    @property
    def margin(self) -> float:
        """How many times more fits."""
        return MOST / self.value if self.value else float("inf")


def expose(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A model with the same inputs that gives max |x| of each float32 tensor, as scalars, in the order of the names.

    The names are those of the inputs and of what nodes give, not those of weights. Only maxima leave the graph: all
    tensors of a network together can take gigabytes.
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
        # Directly after the node: the engine frees the tensor sooner.
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


def gather(names: Sequence[str], maxima: Sequence[Sequence[float]]) -> dict[str, Range]:
    """What ``expose``'s model gave, a row for each input. A maximum that is not finite counts as infinite."""
    table = np.asarray(maxima, np.float64)
    table[~np.isfinite(table)] = np.inf
    least = np.where(table > 0, table, np.inf).min(axis=0)
    return {
        name: Range(float(largest), float(low) if largest else 0.0)
        for name, largest, low in zip(names, table.max(axis=0), least, strict=True)
    }


def peak(names: Collection[str], ranges: Ranges) -> Peak | None:
    """The largest of the tensors ``names``; ``None`` if the ranges of none are known."""
    known = sorted(name for name in names if name in ranges)
    if not known:
        return None
    tensor = max(known, key=lambda name: ranges[name].largest)
    return Peak(tensor, ranges[tensor].largest)

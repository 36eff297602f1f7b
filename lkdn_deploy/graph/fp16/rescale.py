"""Values brought nearer to 1 by powers of two that convolutions take into their weights: exact, and no node more.

FP16 ends at 65504. Before a LayerNorm values may be of any size, since it divides by it, and training makes use of
that: in the published LKDN x4 they reach 1e11, over the last convolutions of each block. In FP32 between casts these
would hold up an FP16 network; divided by 2^k they fit.

A tensor between a convolution that makes it and convolutions or norms that take it may be of any size: a convolution
turns x / 2^a into y / 2^b if its weights are times 2^(a - b) and its bias times 2^-b, and a LayerNorm of x / 2^a gives
what that of x does if its epsilon is times 4^-a. What is homogeneous (a ReLU, a transposition) hands the factor on; a
sum or concatenation needs one factor for all; of a product one operand can have it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lkdn_deploy.graph.fp16.keep_fp32 import LIMIT
from lkdn_deploy.graph.fp16.ranges import Range, Ranges

GOAL = 2.0**7
"""What the largest value of a tensor that was too large becomes at most: as far from the end of FP16 as from where it
drops bits, half the exponents each way, less the margin for inputs that were not tried."""
LEAST = 2.0**-3
"""What the largest value may become on any of the inputs: FP16 then has all its bits for what is 2000 times smaller."""
DEEPEST = 48
"""The largest k: an epsilon of 1e-5 over 4^k is still a normal float32."""

_HANDS_ON = {
    "DepthToSpace", "LeakyRelu", "MaxPool", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Transpose",
}  # fmt: skip
_SHARES = {"Add", "Concat", "Sub"}


@dataclass(frozen=True, slots=True)
class Rescaled:
    """A graph that computes the same, and what is smaller in it."""

    model: onnx.ModelProto
    ranges: dict[str, Range]
    exponents: dict[str, int]
    """k of each tensor that is divided by 2^k, k > 0."""


def rescale(model: onnx.ModelProto, ranges: Ranges) -> Rescaled:
    """Divide by powers of two what is larger than ``LIMIT`` and may be divided.

    Args:
        model: a float32 graph; it is not changed.
        ranges: of its tensors. What is not in it stays.
    """
    groups = _Groups(model, ranges)
    exponents = {}
    for members in groups.free():
        known = [ranges[name] for name in members if name in ranges]
        if len(known) == len(members) and (k := _exponent(known)):
            exponents.update(dict.fromkeys(members, k))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _apply(result.graph, exponents)
    scaled = {name: item.scaled(2.0 ** -exponents.get(name, 0)) for name, item in ranges.items()}
    return Rescaled(result, scaled, exponents)


def _exponent(members: list[Range]) -> int:
    """k for tensors that share it; 0 if they are small enough, or no k serves."""
    largest = max(item.largest for item in members)
    if not LIMIT < largest < math.inf:
        return 0
    most = min(math.floor(math.log2(item.least / LEAST)) for item in members if item.least)
    k = min(math.ceil(math.log2(largest / GOAL)), most, DEEPEST)
    return k if largest / 2.0**k <= LIMIT else 0


class _Groups:
    """Tensors that must share a factor, and whether they may have one."""

    def __init__(self, model: onnx.ModelProto, ranges: Ranges) -> None:
        graph = model.graph
        self._parent: dict[str, str] = {}
        self._fixed: set[str] = set()
        self._weights = {tensor.name for tensor in graph.initializer}
        self._uses: dict[str, int] = {}
        for node in graph.node:
            for name in node.input:
                self._uses[name] = self._uses.get(name, 0) + 1
        for value in (*graph.input, *graph.output):
            self._fixed.add(value.name)
        for node in graph.node:
            self._constrain(node, ranges)

    def free(self) -> Iterator[list[str]]:
        """The groups that may have a factor."""
        groups: dict[str, list[str]] = {}
        for name in self._parent:
            groups.setdefault(self._root(name), []).append(name)
        for members in groups.values():
            if self._fixed.isdisjoint(members):
                yield members

    def _constrain(self, node: onnx.NodeProto, ranges: Ranges) -> None:
        data = [name for name in node.input if name and name not in self._weights]
        for name in (*data, *node.output):
            self._parent.setdefault(name, name)
        if node.op_type == "Shape":
            return
        if node.op_type == "Conv" and len(data) == 1 and all(self._uses[name] == 1 for name in node.input[1:]):
            return
        if node.op_type == "LayerNormalization" and len(node.output) == 1:
            self._fixed.add(node.output[0])
        elif node.op_type in _HANDS_ON:
            self._join(data[0], node.output[0])
        elif node.op_type in _SHARES and len(data) == len(node.input):
            for name in data:
                self._join(name, node.output[0])
        elif node.op_type == "Mul" and len(data) == 2 and data[0] != data[1]:
            # The larger operand has it; the other, a gate or the attention's own input, is no larger than the limit.
            small, large = sorted(data, key=lambda name: ranges[name].largest if name in ranges else 0.0)
            self._fixed.add(small)
            self._join(large, node.output[0])
        else:
            self._fixed.update((*data, *node.output))

    def _root(self, name: str) -> str:
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def _join(self, one: str, other: str) -> None:
        self._parent[self._root(one)] = self._root(other)


def _apply(graph: onnx.GraphProto, exponents: dict[str, int]) -> None:
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        before = exponents.get(node.input[0], 0) if node.input else 0
        if node.op_type == "Conv":
            after = exponents.get(node.output[0], 0)
            for name, k in zip(node.input[1:], (before - after, -after), strict=False):
                if k:
                    values = numpy_helper.to_array(weights[name])
                    weights[name].CopyFrom(numpy_helper.from_array(np.ldexp(values, k), name))
        elif node.op_type == "LayerNormalization" and before:
            given = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
            rest = [item for item in node.attribute if item.name != "epsilon"]
            del node.attribute[:]
            node.attribute.extend([*rest, helper.make_attribute("epsilon", math.ldexp(given, -2 * before))])

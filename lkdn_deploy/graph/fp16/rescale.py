"""Rescale a graph's values by powers of two that convolutions absorb into their weights: exact, without new nodes.

FP16 ends at 65504. In front of a LayerNorm values may be of any size, since it divides by it, and training uses this:
in the published LKDN x4 they reach 1e11, over the last convolutions of each block. Kept in FP32 between casts, these
would slow an FP16 network down; divided by 2^k they fit.

A tensor between a convolution that makes it and convolutions or norms that take it can be scaled freely: a convolution
turns x / 2^a into y / 2^b if its weights are multiplied by 2^(a - b) and its bias by 2^-b, and a LayerNorm of x / 2^a
equals that of x if its epsilon is multiplied by 4^-a, be it one operator or x / sqrt(sum x^2 + epsilon). Homogeneous
operators (a ReLU, a transposition) pass the factor on; a sum or concatenation needs one factor for all its operands; of
a product one operand may have it.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lkdn_deploy.graph.fp16.keep_fp32 import MAX_VALUE
from lkdn_deploy.graph.fp16.ranges import Range, Ranges
from lkdn_deploy.graph.ir_utils import DisjointSets

TARGET_PEAK = 2.0**7
"""Largest value that a rescaled tensor has at most: half of FP16's exponents lie above it and half below, less the
margin for inputs that were not tried."""
MIN_LEAST = 2.0**-3
"""Least value that the maximum may have on any input: FP16 still holds numbers 2000 times smaller with all its bits."""
MAX_EXPONENT = 48
"""The largest k: an epsilon of 1e-5 over 4^k is still a normal float32."""

_HOMOGENEOUS = {
    "DepthToSpace", "LeakyRelu", "MaxPool", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Transpose",
}  # fmt: skip
_ADDITIVE = {"Add", "Concat", "Sub"}


@dataclass(frozen=True, slots=True)
class Rescaled:
    """A graph that computes the same with smaller values."""

    model: onnx.ModelProto
    ranges: dict[str, Range]
    exponents: dict[str, int]
    """k > 0 of each tensor that is divided by 2^k."""


def rescale(model: onnx.ModelProto, ranges: Ranges) -> Rescaled:
    """Divide tensors that exceed ``MAX_VALUE`` by powers of two, where the float32 graph allows it.

    Tensors without a range stay as they are. The model is not changed.
    """
    exponents = {}
    for members in _free_sets(model.graph, ranges):
        known = [ranges[name] for name in members if name in ranges]
        if len(known) == len(members) and (k := _exponent(known)):
            exponents.update(dict.fromkeys(members, k))
    for norm in _quotient_norms(model.graph):
        if k := exponents.get(norm.source, 0):
            exponents |= {norm.square: 2 * k, norm.total: 2 * k, norm.biased: 2 * k, norm.length: k}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _apply(result.graph, exponents)
    scaled = {name: item.scaled(2.0 ** -exponents.get(name, 0)) for name, item in ranges.items()}
    return Rescaled(result, scaled, exponents)


@dataclass(frozen=True, slots=True)
class _QuotientNorm:
    """The names of the tensors of x / sqrt(sum x^2 + epsilon), where the sum is over any axes."""

    source: str
    square: str
    total: str
    epsilon: str
    biased: str
    length: str
    quotient: str


def _quotient_norms(graph: onnx.GraphProto) -> list[_QuotientNorm]:
    """Return the norms that are written out in operators whose results nothing else takes."""
    makers = {name: node for node in graph.node for name in node.output}
    users = Counter(name for node in graph.node for name in node.input)
    users.update(value.name for value in graph.output)
    weights = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        chain = [node]
        if node.op_type != "Div":
            continue
        for op_type in ("Sqrt", "Add", "ReduceSum", "Mul"):
            maker = makers.get(chain[-1].input[1 if op_type == "Sqrt" else 0])
            if maker is None or maker.op_type != op_type:
                break
            chain.append(maker)
        if len(chain) < 5:
            continue
        quotient, length, biased, total, square = chain
        source, epsilon = quotient.input[0], biased.input[1]
        alone = all(users[each.output[0]] == 1 for each in chain[1:])
        if alone and list(square.input) == [source, source] and epsilon in weights:
            found.append(
                _QuotientNorm(
                    source,
                    square.output[0],
                    total.output[0],
                    epsilon,
                    biased.output[0],
                    length.output[0],
                    quotient.output[0],
                )
            )
    return found


def _exponent(members: list[Range]) -> int:
    """Return k for tensors that share it; 0 if they are small enough, or if no k brings them into range."""
    largest = max(item.largest for item in members)
    if not MAX_VALUE < largest < math.inf:
        return 0
    most = min(math.floor(math.log2(item.least / MIN_LEAST)) for item in members if item.least)
    k = min(math.ceil(math.log2(largest / TARGET_PEAK)), most, MAX_EXPONENT)
    return k if largest / 2.0**k <= MAX_VALUE else 0


def _free_sets(graph: onnx.GraphProto, ranges: Ranges) -> Iterator[list[str]]:
    """Yield the sets of tensors that must share a factor and may have one."""
    weights = {tensor.name for tensor in graph.initializer}
    users = Counter(name for node in graph.node for name in node.input)
    norms = _quotient_norms(graph)
    inside = {name for norm in norms for name in (norm.square, norm.total, norm.biased, norm.length)}
    quotients = {norm.quotient for norm in norms}
    sets = DisjointSets[str]()
    fixed = {value.name for value in (*graph.input, *graph.output)}
    for node in graph.node:
        data = [name for name in node.input if name and name not in weights]
        for name in (*data, *node.output):
            sets.root(name)
        if node.op_type == "Shape":
            continue
        if node.op_type == "Conv" and len(data) == 1 and all(users[name] == 1 for name in node.input[1:]):
            continue
        if inside.issuperset(node.output):
            fixed.update(node.output)  # what has the source's factor twice over, see ``_apply``
        elif (node.op_type == "LayerNormalization" and len(node.output) == 1) or quotients.issuperset(node.output):
            fixed.add(node.output[0])
        elif node.op_type in _HOMOGENEOUS:
            sets.join(data[0], node.output[0])
        elif node.op_type in _ADDITIVE and len(data) == len(node.input):
            for name in data:
                sets.join(name, node.output[0])
        elif node.op_type == "Mul" and len(data) == 2 and data[0] != data[1]:
            # The larger operand has the factor; the other, a gate or the attention's own input, needs none.
            small, large = sorted(data, key=lambda name: ranges[name].largest if name in ranges else 0.0)
            fixed.add(small)
            sets.join(large, node.output[0])
        else:
            fixed.update((*data, *node.output))
    return (members for members in sets if fixed.isdisjoint(members))


def _apply(graph: onnx.GraphProto, exponents: dict[str, int]) -> None:
    weights = {tensor.name: tensor for tensor in graph.initializer}
    epsilons = {norm.biased: norm for norm in _quotient_norms(graph)}
    for node in graph.node:
        before = exponents.get(node.input[0], 0) if node.input else 0
        if node.op_type == "Conv":
            after = exponents.get(node.output[0], 0)
            for name, k in zip(node.input[1:], (before - after, -after), strict=False):
                if k:
                    weights[name].CopyFrom(_scaled(weights[name], k, name))
        elif node.op_type == "LayerNormalization" and before:
            given = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
            rest = [item for item in node.attribute if item.name != "epsilon"]
            del node.attribute[:]
            node.attribute.extend([*rest, helper.make_attribute("epsilon", math.ldexp(given, -2 * before))])
        elif before and (norm := epsilons.get(node.output[0])):
            own = f"{norm.biased}_epsilon"  # others may share the old one
            graph.initializer.append(_scaled(weights[norm.epsilon], -before, own))
            node.input[1] = own


def _scaled(tensor: onnx.TensorProto, k: int, name: str) -> onnx.TensorProto:
    """Return a tensor times 2^k under a name."""
    return numpy_helper.from_array(np.ldexp(numpy_helper.to_array(tensor), k), name)

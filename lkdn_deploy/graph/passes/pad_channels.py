"""Channels padded with zeros to what the engine's kernels work on at once.

ONNX Runtime keeps images in blocks of 16 channels (AVX-512; 8 with AVX2) and falls back to slower kernels for a
convolution whose channels are no multiple; OpenVINO's vectors are as wide. The work grows on paper and shrinks on the
clock.

What a padded channel holds does not matter, as long as it is a number: convolutions that take it have zero weights for
it. Only what ``RMSNormalization`` takes must be zero there. Its mean square over D channels, C of them real, is then
C / D of the one over C: with epsilon times C / D and the weight times the root of it, the result is the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from lkdn_deploy.graph.conv import Convolution, convolution, set_weights
from lkdn_deploy.graph.ir_utils import Array, Outcome, channels, integer, integers, only_user, put_weights, weights
from lkdn_deploy.graph.norms import ChannelNorm, channel_norm

BLOCK = 16
LEAST = 8
"""Fewer channels stay: they would be mostly padding."""
MOST = 1.6
"""By how much a tensor may grow at most: 21 channels to 32 pay off, see benchmarks/README.md."""

_ONE_TO_ONE = {"Gelu", "Identity", "LeakyRelu", "MaxPool", "Relu", "Sigmoid", "Tanh"}
"""What treats every channel alike, and gives a number for zero."""
_TWO_TO_ONE = {"Add", "Mul", "Sub"}


def pad_channels(graph: ir.Graph) -> Outcome:
    """Pad what can be padded: tensors from convolutions to convolutions, with what lies between."""
    groups = _Groups(graph)
    padded: dict[ir.Value, int] = {}
    refused = []
    for members in groups.all():
        width = channels(members[0])
        goal = -(-width // BLOCK) * BLOCK if width else 0
        if not width or goal == width or width < LEAST:
            continue
        if reason := groups.reason(members[0]):
            refused.append(f"{members[0].name}: {width} channels stay, for {reason}")
        elif goal > MOST * width:
            refused.append(f"{members[0].name}: {width} channels would become {goal}")
        else:
            padded.update(dict.fromkeys(members, goal))
    for node in list(graph):
        found = convolution(node)
        if found is not None:
            _pad(found, padded)
        norm = _root_mean_square(node)
        if norm is not None and norm.source in padded:
            _pad_norm(graph, norm, padded[norm.source])
    for value, width in padded.items():
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[0], width, *list(value.shape)[2:]])
    return Outcome(len({groups.root(value) for value in padded}), tuple(refused))


def _pad(found: Convolution, padded: dict[ir.Value, int]) -> None:
    out, deep, *kernel = found.weight.shape
    wide = padded.get(found.result, out)
    if found.depthwise:
        columns, depth = [0], 1
    elif any(part in padded for part in _parts(found.source)):
        columns, depth = _places(found.source, padded)
    else:
        columns, depth = list(range(deep)), deep
    if (wide, depth) == (out, deep):
        return
    weight = np.zeros((wide, depth, *kernel))
    weight[:out, columns] = found.weight
    set_weights(found, weight, None if found.bias is None else np.pad(found.bias, (0, wide - out)))


def _pad_norm(graph: ir.Graph, norm: ChannelNorm, wide: int) -> None:
    share = len(norm.weight) / wide
    weight = np.pad(norm.weight * share**0.5, (0, wide - len(norm.weight)))
    norm.node.replace_input_with(1, put_weights(graph, f"{norm.result.name}.weight", weight))
    norm.node.attributes["epsilon"] = ir.AttrFloat32("epsilon", norm.epsilon * share)
    for value in (norm.first.outputs[0], norm.node.outputs[0]):
        value.shape = None


def _root_mean_square(node: ir.Node) -> ChannelNorm | None:
    """The norm that ``node`` is, if padding it leaves zeros alone: what makes its channels must give zeros."""
    norm = channel_norm(node) if node.op_type == "RMSNormalization" else None
    return norm if norm is not None and convolution(norm.source.producer()) is not None else None


def _places(source: ir.Value, padded: dict[ir.Value, int]) -> tuple[list[int], int]:
    """Where the channels that were there before lie in what a convolution takes, and how many it takes."""
    places: list[int] = []
    start = 0
    for part in _parts(source):
        width = channels(part) or 0  # known: it is padded, or lies beside one that is
        places += range(start, start + width)
        start += padded.get(part, width)
    return places, start


def _parts(value: ir.Value) -> list[ir.Value]:
    """The tensors that ``value`` puts side by side."""
    node = value.producer()
    if node is None or not _is_transparent(node):
        return [value]
    return [each for each in node.inputs if each is not None]


def _is_transparent(node: ir.Node) -> bool:
    """Whether it puts tensors side by side for ungrouped convolutions only: these can be told where each lies."""
    if node.op_type != "Concat" or integer(node, "axis", 0) != 1 or node.outputs[0].is_graph_output():
        return False
    takers = [convolution(use.node) for use in node.outputs[0].uses()]
    known = all(value is not None and channels(value) is not None for value in node.inputs)
    return known and all(taker is not None and taker.groups == 1 for taker in takers)


@dataclass(slots=True)
class _Member:
    parent: ir.Value
    reason: str = ""


class _Groups:
    """Tensors that must have the same channels, and why some must keep theirs."""

    def __init__(self, graph: ir.Graph) -> None:
        self._members: dict[ir.Value, _Member] = {}
        for value in graph.inputs:
            self._keep(value, "it is the input")
        for node in graph:
            self._constrain(node)
        for value in graph.outputs:
            self._keep(value, "it is the output")

    def root(self, value: ir.Value) -> ir.Value:
        member = self._members.setdefault(value, _Member(value))
        if member.parent is not value:
            member.parent = self.root(member.parent)
        return member.parent

    def reason(self, value: ir.Value) -> str:
        return self._members[self.root(value)].reason

    def all(self) -> Iterator[list[ir.Value]]:
        """The groups, with their members."""
        found: dict[ir.Value, list[ir.Value]] = {}
        for value in self._members:
            found.setdefault(self.root(value), []).append(value)
        yield from found.values()

    def _constrain(self, node: ir.Node) -> None:
        inputs = [value for value in node.inputs if value is not None and weights(value) is None]
        found = convolution(node)
        if found is not None and found.depthwise and channels(found.source) == len(found.weight):
            self._join(found.source, found.result)
        elif found is not None and found.groups == 1:
            self._join(found.result, found.result)
        elif _is_transparent(node) or (node.op_type == "Transpose" and _of_norm(node)):
            pass
        elif (norm := _root_mean_square(node)) is not None:
            self._join(norm.source, norm.result)
        elif node.op_type in _ONE_TO_ONE or _pools(node):
            self._join(inputs[0], node.outputs[0])
        elif node.op_type in _TWO_TO_ONE and len({channels(value) for value in (*inputs, *node.outputs)}) == 1:
            if any(np.size(constant) > 1 for constant in _constants(node)):
                self._keep_all(node, inputs, f"{node.op_type} has a constant for each")
            for value in inputs:
                self._join(value, node.outputs[0])
        else:
            self._keep_all(node, inputs, f"{node.op_type} takes or gives it")

    def _keep_all(self, node: ir.Node, inputs: list[ir.Value], reason: str) -> None:
        for value in (*inputs, *node.outputs):
            self._keep(value, reason)

    def _keep(self, value: ir.Value, reason: str) -> None:
        self._members[self.root(value)].reason = reason

    def _join(self, one: ir.Value, other: ir.Value) -> None:
        first, second = self.root(one), self.root(other)
        self._members[second].reason = self._members[second].reason or self._members[first].reason
        self._members[first].parent = second


def _of_norm(node: ir.Node) -> bool:
    """Whether it is a transposition before or behind a norm that can be padded."""
    before, after = node.inputs[0], only_user(node.outputs[0])
    behind = before.producer() if before is not None else None
    return any(each is not None and _root_mean_square(each) is not None for each in (behind, after))


def _pools(node: ir.Node) -> bool:
    """Whether it takes the mean of each channel."""
    if node.op_type == "GlobalAveragePool":
        return True
    if node.op_type != "ReduceMean" or integer(node, "keepdims", 1) != 1:
        return False
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is not None:
        return axes.const_value is not None and set(axes.const_value.numpy().tolist()) in ({2, 3}, {-1, -2})
    return set(integers(node, "axes", ())) in ({2, 3}, {-1, -2})


def _constants(node: ir.Node) -> list[Array]:
    return [found for value in node.inputs if (found := weights(value)) is not None]

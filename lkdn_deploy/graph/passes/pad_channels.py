"""Pad channels with zeros to the number that the engine's kernels process at once.

ONNX Runtime keeps images in blocks of 16 channels (AVX-512; 8 with AVX2) and uses slower kernels for a convolution
whose channels are no multiple of it; OpenVINO's vectors are as wide, and TensorRT fuses GELU into convolutions of such
widths only. There is more arithmetic, but it takes less time.

The values of padded channels do not matter as long as they are finite: convolutions that take them have zero weights
for them. Only what is summed over channels must be zero there: the input of a ``ReduceSum`` over axis 1, and that of
``RMSNormalization``. The latter's mean square over D channels, C of them real, is then C / D of that over C: with
epsilon times C / D and the weight times the square root of it, the result is the same.
"""

import numpy as np
import onnx_ir as ir

from lkdn_deploy.graph.channel_norm import ChannelNorm, match_channel_norm
from lkdn_deploy.graph.conv import ConvNode, match_conv
from lkdn_deploy.graph.ir_utils import (
    Array,
    DisjointSets,
    Outcome,
    add_initializer,
    channel_count,
    concatenates_channels,
    constant,
    integer_input,
    sole_consumer,
)

BLOCK = 16
"""Channels of a block."""
MIN_CHANNELS = 8
"""Fewer channels stay as they are: they would become mostly padding."""
MAX_GROWTH = 1.6
"""Largest ratio of channels after and before: 21 channels to 32 pay off, see benchmarks/README.md."""

_UNARY = {"Gelu", "Identity", "LeakyRelu", "MaxPool", "Relu", "Sigmoid", "Tanh"}
"""Operators that treat all channels alike and are finite for zeros."""
_BINARY = {"Add", "Mul", "Sub"}
_KEEPS_ZERO = _UNARY - {"Sigmoid"}


def pad_channels(graph: ir.Graph) -> Outcome:
    """Pad tensors between convolutions, with everything that lies between them."""
    padded: dict[ir.Value, int] = {}
    applied, refused = 0, []
    sets, pinned = _constraints(graph)
    for members in sets:
        width = channel_count(members[0])
        goal = -(-width // BLOCK) * BLOCK if width else 0
        if not width or goal == width or width < MIN_CHANNELS:
            continue
        name, reason = members[0].name, next((pinned[value] for value in members if value in pinned), "")
        if reason:
            refused.append(f"{name}: {width} channels stay, for {reason}")
        elif goal > MAX_GROWTH * width:
            refused.append(f"{name}: {width} channels would become {goal}")
        else:
            padded.update(dict.fromkeys(members, goal))
            applied += 1
    for node in list(graph):
        if conv := match_conv(node):
            _pad_conv(conv, padded)
        if (norm := _match_rms_norm(node)) and norm.source in padded:
            _pad_norm(graph, norm, padded[norm.source])
        if node.op_type in _BINARY and node.outputs[0] in padded:
            _pad_constants(graph, node, padded[node.outputs[0]])
    for value, width in padded.items():
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[0], width, *list(value.shape)[2:]])
    return Outcome(applied, tuple(refused))


def _pad_conv(conv: ConvNode, padded: dict[ir.Value, int]) -> None:
    out, deep, *kernel = conv.weight.shape
    wide = padded.get(conv.result, out)
    if conv.depthwise:
        columns, depth = [0], 1
    elif any(part in padded for part in _parts(conv.source)):
        columns, depth = _positions(conv.source, padded)
    else:
        columns, depth = list(range(deep)), deep
    if (wide, depth) == (out, deep):
        return
    weight = np.zeros((wide, depth, *kernel))
    weight[:out, columns] = conv.weight
    conv.set_weights(weight, None if conv.bias is None else np.pad(conv.bias, (0, wide - out)))


def _pad_norm(graph: ir.Graph, norm: ChannelNorm, wide: int) -> None:
    share = len(norm.weight) / wide
    weight = np.pad(norm.weight * share**0.5, (0, wide - len(norm.weight)))
    norm.node.replace_input_with(1, add_initializer(graph, f"{norm.result.name}.weight", weight))
    norm.node.attributes.add(ir.AttrFloat32("epsilon", norm.epsilon * share))
    for value in (norm.transposition.outputs[0], norm.node.outputs[0]):
        value.shape = None


def _pad_constants(graph: ir.Graph, node: ir.Node, wide: int) -> None:
    """Append zeros to a constant for each channel, (1, C, 1, 1)."""
    for place, value in enumerate(node.inputs):
        if value is not None and (numbers := _for_each_channel(value)) is not None:
            more = np.zeros((1, wide - numbers.shape[1], 1, 1))
            padded = add_initializer(graph, str(value.name), np.concatenate([numbers, more], axis=1))
            node.replace_input_with(place, padded)


def _is_scalar_or_for_each_channel(value: ir.Value | None) -> bool:
    """Return whether a value is no constant, or one that can be padded or need not be."""
    numbers = constant(value)
    return value is None or numbers is None or numbers.size == 1 or _for_each_channel(value) is not None


def _for_each_channel(value: ir.Value) -> Array | None:
    """Return a constant of the shape (1, C, 1, 1) with C > 1."""
    numbers = constant(value)
    matches = numbers is not None and numbers.ndim == 4 and numbers.shape == (1, numbers.size, 1, 1)
    return numbers if matches and numbers is not None and numbers.size > 1 else None


def _match_rms_norm(node: ir.Node) -> ChannelNorm | None:
    """Return the ``RMSNormalization`` that ``node`` is, if a convolution makes its input: padded channels are zero."""
    norm = match_channel_norm(node) if node.op_type == "RMSNormalization" else None
    return norm if norm is not None and match_conv(norm.source.producer()) is not None else None


def _positions(source: ir.Value, padded: dict[ir.Value, int]) -> tuple[list[int], int]:
    """Return where the unpadded channels lie in what a convolution takes, and how many channels that has in all."""
    positions: list[int] = []
    start = 0
    for part in _parts(source):
        width = channel_count(part) or 0  # known: the part is padded, or lies beside one that is
        positions += range(start, start + width)
        start += padded.get(part, width)
    return positions, start


def _parts(value: ir.Value) -> list[ir.Value]:
    """Return the tensors that ``value`` concatenates; itself if it is no transparent concatenation."""
    node = value.producer()
    if node is None or not _is_transparent(node):
        return [value]
    return [each for each in node.inputs if each is not None]


def _is_transparent(node: ir.Node) -> bool:
    """Return whether a node concatenates channels for ungrouped convolutions only, whose columns can be moved."""
    if not concatenates_channels(node) or node.outputs[0].is_graph_output():
        return False
    consumers = [match_conv(use.node) for use in node.outputs[0].uses()]
    known = all(value is not None and channel_count(value) is not None for value in node.inputs)
    return known and all(conv is not None and conv.groups == 1 for conv in consumers)


def _constraints(graph: ir.Graph) -> tuple[DisjointSets[ir.Value], dict[ir.Value, str]]:
    """Return sets of tensors that must have equally many channels, and the reason of each that must keep its own."""
    sets, pinned = DisjointSets[ir.Value](), dict[ir.Value, str]()

    def pin(values: list[ir.Value], reason: str) -> None:
        for value in values:
            sets.root(value)
            pinned[value] = reason

    pin(list(graph.inputs), "it is the input")
    for node in graph:
        inputs = [value for value in node.inputs if value is not None and constant(value) is None]
        conv, norm = match_conv(node), _match_rms_norm(node)
        if conv is not None and conv.depthwise and channel_count(conv.source) == len(conv.weight):
            sets.join(conv.source, conv.result)
        elif conv is not None and conv.groups == 1:
            sets.root(conv.result)
        elif _is_transparent(node) or (node.op_type == "Transpose" and _belongs_to_norm(node)):
            pass
        elif norm is not None:
            sets.join(norm.source, norm.result)
        elif node.op_type in _UNARY or _is_global_mean(node):
            sets.join(inputs[0], node.outputs[0])
        elif _is_channel_sum(node) and _is_zero_where_padded(inputs[0]):
            sets.root(inputs[0])
        elif node.op_type == "Div" and len(inputs) == 2 and channel_count(inputs[1]) == 1:
            sets.join(inputs[0], node.outputs[0])
        elif node.op_type in _BINARY and len({channel_count(value) for value in (*inputs, *node.outputs)}) == 1:
            if not all(map(_is_scalar_or_for_each_channel, node.inputs)):
                pin([*inputs, *node.outputs], f"{node.op_type} has a constant for each pixel")
            for value in inputs:
                sets.join(value, node.outputs[0])
        else:
            pin([*inputs, *node.outputs], f"{node.op_type} takes or gives it")
    pin(list(graph.outputs), "it is the output")
    return sets, pinned


def _belongs_to_norm(node: ir.Node) -> bool:
    """Return whether a transposition is the one before or behind a norm that can be padded."""
    before, after = node.inputs[0], sole_consumer(node.outputs[0])
    behind = before.producer() if before is not None else None
    return any(each is not None and _match_rms_norm(each) is not None for each in (behind, after))


def _is_global_mean(node: ir.Node) -> bool:
    if node.op_type != "ReduceMean":
        return node.op_type == "GlobalAveragePool"
    axes = integer_input(node, 1) or node.attributes.get_ints("axes", ())
    return node.attributes.get_int("keepdims", 1) == 1 and set(axes) in ({2, 3}, {-1, -2})


def _is_channel_sum(node: ir.Node) -> bool:
    """Return whether a node adds up the channels of each pixel, and keeps the axis."""
    if node.op_type != "ReduceSum" or node.attributes.get_int("keepdims", 1) != 1:
        return False
    return integer_input(node, 1) in ((1,), (-3,))


def _is_zero_where_padded(value: ir.Value) -> bool:
    """Return whether channels that are appended to the convolutions in front of ``value`` are zero in it."""
    node = value.producer()
    if node is None:
        return _for_each_channel(value) is not None
    if (conv := match_conv(node)) is not None:
        return conv.groups == 1 or conv.depthwise  # its padded rows of weights and biases are zero
    operands = [_is_zero_where_padded(each) for each in node.inputs if each is not None]
    if node.op_type in ("Add", "Sub"):
        return all(operands)
    return any(operands) if node.op_type == "Mul" else node.op_type in _KEEPS_ZERO and all(operands)

"""ONNX operators as operations of the program: one importer for each operator.

An importer gets the builder, the names of the node's inputs and its attributes. It appends operations to the builder,
returns the output as a map, and raises `UnsupportedError` where there is no kernel for the node. `validate.check_node`
has checked shapes and attributes before.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.frontend.gathered import export_gathered, export_larger, export_windows
from lkdn_deploy.backends.native.frontend.tensors import FeatureMap, ProgramBuilder, sliced_channels, split_channels
from lkdn_deploy.backends.native.frontend.validate import sums_pixels
from lkdn_deploy.backends.native.ir import (
    Boundary,
    BoundaryKind,
    ConvOp,
    DepthwiseOp,
    Elementwise,
    Floats,
    NormOp,
    Pooling,
    SelectOp,
    require,
)

Attributes = Mapping[str, Any]
Importer = Callable[[ProgramBuilder, list[str], Attributes], FeatureMap]


def _conv(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> FeatureMap:
    source, weight = builder.map(inputs[0]), builder.constant(inputs[1])
    count, groups = len(weight), int(attributes.get("group", 1))
    bias = _bias(builder, inputs)
    dilation = tuple(attributes.get("dilations", (1, 1)))
    depthwise = groups == count == len(source.order) and weight.shape[1] == 1
    if depthwise and source.scale == 1 and len(source.values) == 1:
        result = builder.new_map(count)
        builder.add(DepthwiseOp((builder.ordered_value(source),), result.values[0], weight[:, 0], bias, dilation))
        return result
    if 1 < groups == len(source.order) and source.scale == 1 and len(source.values) == 1:
        return _several_depthwise(builder, builder.ordered_value(source), weight[:, 0], bias, dilation)
    wide, order = _on_the_input_grid(_ungrouped(weight, groups), source.order, dilation)
    output = builder.new_value(len(wide))
    positions = source.scale**2
    if positions > 1:
        dilation, groups = (1, 1), positions
    builder.add(ConvOp(source.values, output, wide, np.tile(bias, positions), dilation, (groups, groups)))
    return FeatureMap((output,), order)


def _several_depthwise(
    builder: ProgramBuilder, source: int, weight: Floats, bias: Floats, dilation: tuple[int, int]
) -> FeatureMap:
    """Append depthwise convolutions for several outputs of each channel, which are adjacent in ONNX's order."""
    channels = builder.channels[source]
    times = len(weight) // channels
    values = tuple(builder.new_value(channels) for _ in range(times))
    for number, value in enumerate(values):
        builder.add(DepthwiseOp((source,), value, weight[number::times], bias[number::times], dilation))
    order = np.arange(times * channels).reshape(times, channels).T.reshape(-1, 1, 1)
    return FeatureMap(values, np.ascontiguousarray(order))


def _ungrouped(weight: Floats, groups: int) -> Floats:
    """Return the weights of a grouped convolution as those of a dense one, with zeros between groups."""
    if groups == 1:
        return weight
    count, each = weight.shape[:2]
    dense = np.zeros((count, each * groups, *weight.shape[2:]), np.float32)
    for group in range(groups):
        outputs = slice(group * count // groups, (group + 1) * count // groups)
        dense[outputs, group * each : (group + 1) * each] = weight[outputs]
    return dense


def _on_the_input_grid(
    weight: Floats, order: NDArray[np.intp], dilation: tuple[int, ...]
) -> tuple[Floats, NDArray[np.intp]]:
    """Rewrite a convolution of a tensor r times the input's size as one of its sub-pixel maps.

    The pixel (r y + e, r x + f) of the large tensor reads those at r y + e + d. They lie floor((e + d) / r) rows from
    y, in the map of the remainder; columns alike.

    Returns the weights over the source's channels, (out, in, rows, columns), and the output's order.
    """
    count, _, rows, columns = weight.shape
    scale = order.shape[1]
    if scale == 1:
        permuted = np.zeros((count, order.size, rows, columns), np.float32)
        permuted[:, order[:, 0, 0]] = weight
        return permuted, np.arange(count).reshape(count, 1, 1)
    radius = [math.ceil(size // 2 * step / scale) for size, step in zip((rows, columns), dilation, strict=True)]
    wide = np.zeros((scale, scale, count, order.size, 2 * radius[0] + 1, 2 * radius[1] + 1), np.float32)
    for e, f, i, j in np.ndindex(scale, scale, rows, columns):
        y, from_y = divmod(e + (i - rows // 2) * dilation[0], scale)
        x, from_x = divmod(f + (j - columns // 2) * dilation[1], scale)
        wide[e, f, :, order[:, from_y, from_x], y + radius[0], x + radius[1]] = weight[:, :, i, j].T
    positions = np.arange(scale * scale * count).reshape(scale, scale, count).transpose(2, 0, 1)
    return wide.reshape(-1, *wide.shape[3:]), positions


def _depth_to_space(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> FeatureMap:
    source, times = builder.map(inputs[0]), int(attributes["blocksize"])
    scale, count = source.scale, len(source.order) // times**2
    if attributes.get("mode", b"DCR") == b"CRD":
        split = source.order.reshape(count, times, times, scale, scale)
    else:
        split = source.order.reshape(times, times, count, scale, scale).transpose(2, 0, 1, 3, 4)
    # Row r y + e of the source becomes ``times`` rows.
    order = split.transpose(0, 3, 1, 4, 2).reshape(count, scale * times, scale * times)
    return FeatureMap(source.values, np.ascontiguousarray(order))


def _elementwise(builder: ProgramBuilder, source: FeatureMap, kind: str, *others: int, **fields: Any) -> FeatureMap:
    """Append an `Elementwise` of ``source`` and other values."""
    value = builder.single_value(source)
    output = builder.new_value(builder.channels[value])
    builder.add(Elementwise((value, *others), output, kind, **fields))
    return FeatureMap((output,), source.order, source.channels_last)


def _unary(kind: str, builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> FeatureMap:
    return _elementwise(builder, builder.map(inputs[0]), kind, alpha=float(attributes.get("alpha", 0.01)))


def _binary(kind: str, builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    if kind == "mul" and inputs[0] == inputs[1]:
        return _elementwise(builder, builder.map(inputs[0]), "square")
    first, second = inputs if builder.is_map(inputs[0]) else inputs[::-1]
    require(first == inputs[0] or kind in ("add", "mul"), "a constant minus a tensor")
    source = builder.map(first)
    builder.single_value(source)
    if builder.is_map(second):
        return _of_maps(builder, kind, source, builder.map(second))
    if (vector := builder.per_channel(second)) is not None:
        fits = not source.channels_last and source.scale == 1 and builder.channels[vector] == len(source.order)
        require(fits, "an operation on tensors of different channels")
        ordered = FeatureMap((builder.ordered_value(source),), np.arange(len(source.order)).reshape(-1, 1, 1))
        return _elementwise(builder, ordered, kind, vector)
    return _elementwise(builder, source, kind, constant=_by_channel(builder.constant(second), source))


def _of_maps(builder: ProgramBuilder, kind: str, source: FeatureMap, operand: FeatureMap) -> FeatureMap:
    """Append an operation on two maps, of which the second may have one channel for all."""
    if kind in ("add", "mul") and source.one_channel and not operand.one_channel:
        source, operand = operand, source
    fits = source.same_layout(operand) or (operand.one_channel and source.scale == 1)
    require(fits, "an operation on tensors of different sizes")
    value, other = builder.single_value(source), builder.single_value(operand)
    for gate, weighed in ((value, other), (other, value)) if kind == "mul" else ():
        if builder.is_result(gate, "sigmoid", weighed):
            return _elementwise(builder, replace(source, values=(weighed,)), "silu")
    return _elementwise(builder, source, kind, other)


def _div(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    source = builder.map(inputs[0])
    if builder.is_map(inputs[1]):
        return _of_maps(builder, "mul", source, _elementwise(builder, builder.map(inputs[1]), "reciprocal"))
    reciprocal = np.reciprocal(_by_channel(builder.constant(inputs[1]), source))
    return _elementwise(builder, source, "mul", constant=reciprocal)


def _pow(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    return _elementwise(builder, builder.map(inputs[0]), "square")


def _sum_of_channels(builder: ProgramBuilder, source: FeatureMap) -> FeatureMap:
    """Append the sum over channels, a map of one channel."""
    result = builder.new_map(1)
    ones = np.ones((1, source.order.size, 1, 1), np.float32)
    builder.add(ConvOp(source.values, result.values[0], ones, np.zeros(1, np.float32), (1, 1)))
    return result


def _reduce_sum(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    return _sum_of_channels(builder, builder.map(inputs[0]))


def _length(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    """Append the length of each pixel's vector of channels, a map of one channel."""
    squares = _elementwise(builder, builder.map(inputs[0]), "square")
    return _elementwise(builder, _sum_of_channels(builder, squares), "sqrt")


def _clip(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    found = builder.map(inputs[0])
    for kind, name in zip(("max", "min"), inputs[1:], strict=False):
        if name:
            found = _elementwise(builder, found, kind, constant=_by_channel(builder.constant(name), found))
    return found


def _slice(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    return _selected(builder, builder.map(inputs[0]).values[0], sliced_channels(builder, inputs))


def _selected(builder: ProgramBuilder, value: int, channels: range) -> FeatureMap:
    result = builder.new_map(len(channels))
    builder.add(SelectOp((value,), result.values[0], channels.start))
    return result


def import_split(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> list[FeatureMap]:
    """Append the parts that a ``Split`` makes of a map's channels, and return them; ``validate`` has checked it.

    Args:
        builder: the program under construction.
        inputs: names of the node's inputs.
        attributes: its attributes.
    """
    value = builder.ordered_value(builder.map(inputs[0]))
    ends = np.cumsum(split_channels(builder, inputs, attributes)).tolist()
    return [_selected(builder, value, range(start, end)) for start, end in pairwise([0, *ends])]


def _export_sums(summed: bool, builder: ProgramBuilder, node: Any, inputs: list[str], _: Attributes) -> None:
    """Export the row sums of a map, as its mean or its sum over height and width."""
    builder.export_value(Boundary(BoundaryKind.ROW_SUMS, node.output[0], summed=summed), builder.map(inputs[0]))


def _export_strided_conv(builder: ProgramBuilder, node: Any, inputs: list[str], attributes: Attributes) -> None:
    """Append a convolution of every second row and column, whose result is exported."""
    name = node.output[0]
    source, weight = builder.map(inputs[0]), builder.constant(inputs[1])
    dense = _ungrouped(weight, int(attributes.get("group", 1)))
    wide, _ = _on_the_input_grid(dense, source.order, (1, 1))
    pads = attributes.get("pads", (0, 0))
    row, column = (side // 2 - pad for side, pad in zip(weight.shape[2:], pads[:2], strict=True))
    value = builder.export(Boundary(BoundaryKind.EVERY_SECOND, name, (row, column)), len(wide), *source.values)
    builder.add(ConvOp(source.values, value, wide, _bias(builder, inputs), (1, 1), first=(row, column)))


def _export_pooling(builder: ProgramBuilder, node: Any, inputs: list[str], attributes: Attributes) -> None:
    """Add a maximum over windows to what is exported of every second row and column of a map."""
    name = node.output[0]
    value, boundary = builder.exported_map(inputs[0])
    pooling = Pooling(name, attributes["kernel_shape"][0], attributes.get("strides", (1,))[0])
    builder.boundaries[value] = replace(boundary, poolings=(*boundary.poolings, pooling))
    builder.partition.depths[name] = builder.partition.depths[inputs[0]]


def _bias(builder: ProgramBuilder, inputs: list[str]) -> Floats:
    """Return the bias of a convolution."""
    return builder.constant(inputs[2]) if inputs[2:3] > [""] else np.zeros(len(builder.constant(inputs[1])), np.float32)


def _by_channel(constant: Floats, source: FeatureMap) -> Floats:
    """Return a constant as one number for each channel of the map's value."""
    shape = (1,) * (4 - constant.ndim) + constant.shape
    axis = 3 if source.channels_last else 1
    uniform = len(shape) == 4 and all(size == 1 for place, size in enumerate(shape) if place != axis)
    require(uniform, "a constant that differs between pixels")
    require(shape[axis] in (1, len(source.order)), "a constant with another number of channels than its operand")
    spread = np.empty(source.order.size, np.float32)
    spread[source.order] = np.broadcast_to(constant.reshape(-1, 1, 1), source.order.shape)
    return spread


def _concat(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> FeatureMap:
    sources = [builder.map(name) for name in inputs]
    starts = np.cumsum([0, *(sum(builder.channels[value] for value in source.values) for source in sources)])
    order = np.concatenate([source.order + start for source, start in zip(sources, starts, strict=False)])
    return FeatureMap(tuple(value for source in sources for value in source.values), order)


def _transpose(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> FeatureMap:
    source = builder.map(inputs[0])
    expected = (0, 3, 1, 2) if source.channels_last else (0, 2, 3, 1)
    require(tuple(attributes.get("perm", ())) == expected, "a transposition other than between NCHW and NHWC")
    return FeatureMap(source.values, source.order, not source.channels_last)


def _layer_norm(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> FeatureMap:
    source = builder.map(inputs[0])
    value, scale = builder.ordered_value(source), builder.constant(inputs[1])
    shift = builder.constant(inputs[2]) if len(inputs) > 2 and inputs[2] else np.zeros_like(scale)
    result = builder.new_map(len(scale))
    builder.add(NormOp((value,), result.values[0], scale, shift, float(attributes.get("epsilon", 1e-5))))
    return replace(result, channels_last=True)


IMPORTERS: dict[str, Importer] = {
    "Add": partial(_binary, "add"),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": _div,
    "Gelu": partial(_unary, "gelu"),
    "Identity": lambda builder, inputs, _: builder.map(inputs[0]),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": partial(_unary, "leaky_relu"),
    "Mul": partial(_binary, "mul"),
    "PRelu": partial(_binary, "prelu"),
    "Pow": _pow,
    "Reciprocal": partial(_unary, "reciprocal"),
    "ReduceL2": _length,
    "ReduceSum": _reduce_sum,
    "Relu": partial(_unary, "relu"),
    "Sigmoid": partial(_unary, "sigmoid"),
    "Slice": _slice,
    "Sqrt": partial(_unary, "sqrt"),
    "Sub": partial(_binary, "sub"),
    "Tanh": partial(_unary, "tanh"),
    "Transpose": _transpose,
}

Exporter = Callable[[ProgramBuilder, Any, list[str], Attributes], None]
_EXPORTERS: dict[str, Exporter] = {
    "Gather": export_gathered,
    "GlobalAveragePool": partial(_export_sums, False),
    "Max": export_larger,
    "MaxPool": _export_pooling,
    "ReduceMean": partial(_export_sums, False),
}
"""Importers of operators whose output leaves the compiled code; they get the node, too."""


def exporter_of(builder: ProgramBuilder, kind: str, inputs: list[str], attributes: Attributes) -> Exporter | None:
    """Return the importer of a node if its output leaves the compiled code, otherwise ``None``.

    Args:
        builder: the program under construction.
        kind: ONNX's name of the operator.
        inputs: names of the node's inputs.
        attributes: its attributes.
    """
    if kind == "Conv" and max(attributes.get("strides", ()), default=1) > 1:
        return _export_strided_conv
    if kind == "ReduceSum" and sums_pixels(builder, inputs, attributes):
        return partial(_export_sums, True)
    if kind == "MaxPool" and builder.is_inside(inputs[0]):
        return export_windows
    return _EXPORTERS.get(kind)

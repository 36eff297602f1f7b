"""Nodes of a graph as operations of a program, by their type."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.frontend.tensors import Map, Reading
from lkdn_deploy.backends.native.ir import Convolution, Depthwise, Floats, Kind, Norm, Pointwise, UnsupportedError

Attributes = Mapping[str, Any]


def _constant(reading: Reading, name: str) -> Floats:
    found = reading.constants.get(name)
    if found is None or found.dtype != np.float32:
        msg = "weights that are computed, or not in float32"
        raise UnsupportedError(msg)
    return found


def _convolution(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    source, weight = reading.map(inputs[0]), _constant(reading, inputs[1])
    count, groups = len(weight), int(attributes.get("group", 1))
    bias = _constant(reading, inputs[2]) if len(inputs) > 2 and inputs[2] else np.zeros(count, np.float32)
    dilation = tuple(attributes.get("dilations", (1, 1)))
    _check_window(weight, dilation, attributes)
    if source.last:
        msg = "a convolution of channels that come last"
        raise UnsupportedError(msg)
    depthwise = groups == count == len(source.order) and weight.shape[1] == 1
    if depthwise and source.scale == 1 and len(source.values) == 1:
        result = reading.plain(count)
        reading.add(Depthwise(source.values[:1], result.values[0], weight[:, 0], bias, dilation))
        return result
    dense = _ungrouped(weight, groups)
    wide, order = _on_the_grid(dense, source.order, dilation)
    output = reading.new(len(wide))
    phases = source.scale**2
    bias = np.tile(bias, phases)
    pieces = (phases, phases) if phases > 1 else (groups, groups)
    reading.add(Convolution(source.values, output, wide, bias, (1, 1) if phases > 1 else dilation, pieces))
    return Map((output,), order)


def _check_window(weight: Floats, dilation: tuple[int, ...], attributes: Attributes) -> None:
    """Only those that keep the size."""
    if weight.ndim != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        msg = "a convolution of other than two dimensions, or that pads by itself"
        raise UnsupportedError(msg)
    sides = [size // 2 * step for size, step in zip(weight.shape[2:], dilation, strict=True)]
    same = list(attributes.get("pads", (0, 0, 0, 0))) == sides * 2 and all(size % 2 for size in weight.shape[2:])
    if not same or set(attributes.get("strides", (1, 1))) != {1}:
        msg = "a convolution that changes the size"
        raise UnsupportedError(msg)


def _ungrouped(weight: Floats, groups: int) -> Floats:
    """With zeros between the groups."""
    if groups == 1:
        return weight
    count, each = weight.shape[:2]
    dense = np.zeros((count, each * groups, *weight.shape[2:]), np.float32)
    for group in range(groups):
        rows = slice(group * count // groups, (group + 1) * count // groups)
        dense[rows, group * each : (group + 1) * each] = weight[rows]
    return dense


def _on_the_grid(weight: Floats, order: NDArray[np.intp], dilation: tuple[int, ...]) -> tuple[Floats, NDArray[np.intp]]:
    """Weights over the channels of ``order`` for a convolution of the r times larger picture, and the result's order.

    The pixel (r y + e, r x + f) of the larger picture takes those at r y + e + d: of row floor((e + d) / r) from y, in
    the channel of the rest.
    """
    count, _, rows, columns = weight.shape
    scale = order.shape[1]
    if scale == 1:
        taken = np.zeros((count, order.size, rows, columns), np.float32)
        taken[:, order[:, 0, 0]] = weight
        return taken, np.arange(count).reshape(count, 1, 1)
    sides = [math.ceil(size // 2 * step / scale) for size, step in zip((rows, columns), dilation, strict=True)]
    wide = np.zeros((scale, scale, count, order.size, 2 * sides[0] + 1, 2 * sides[1] + 1), np.float32)
    for e, f, i, j in np.ndindex(scale, scale, rows, columns):
        y, from_y = divmod(e + (i - rows // 2) * dilation[0], scale)
        x, from_x = divmod(f + (j - columns // 2) * dilation[1], scale)
        wide[e, f, :, order[:, from_y, from_x], y + sides[0], x + sides[1]] = weight[:, :, i, j].T
    places = np.arange(scale * scale * count).reshape(scale, scale, count).transpose(2, 0, 1)
    return wide.reshape(-1, *wide.shape[3:]), places


def _depth_to_space(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    source, times = reading.map(inputs[0]), int(attributes["blocksize"])
    scale, count = source.scale, len(source.order) // times**2
    if attributes.get("mode", b"DCR") == b"CRD":
        split = source.order.reshape(count, times, times, scale, scale)
    else:
        split = source.order.reshape(times, times, count, scale, scale).transpose(2, 0, 1, 3, 4)
    # Row (r y + e) of times rows each, of which this is the b-th.
    order = split.transpose(0, 3, 1, 4, 2).reshape(count, scale * times, scale * times)
    return Map(source.values, np.ascontiguousarray(order), source.last)


def _unary(kind: str) -> Callable[[Reading, list[str], Attributes], Map]:
    def read(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
        if attributes.get("approximate", b"none") != b"none":
            msg = "GELU that is approximated"
            raise UnsupportedError(msg)
        source = reading.map(inputs[0])
        value = reading.one(source)
        output = reading.new(reading.channels[value])
        alpha = float(attributes.get("alpha", 0.01))
        reading.add(Pointwise(kind, (value,), output, alpha=alpha))
        return Map((output,), source.order, source.last)

    return read


def _binary(kind: str) -> Callable[[Reading, list[str], Attributes], Map]:
    def read(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
        if kind == "mul" and inputs[0] == inputs[1]:
            return _unary("square")(reading, inputs[:1], attributes)
        names = inputs if reading.is_map(inputs[0]) else inputs[::-1]
        if names != inputs and kind not in ("add", "mul"):
            msg = "a constant less a map"
            raise UnsupportedError(msg)
        source = reading.map(names[0])
        value = reading.one(source)
        other: tuple[int, ...] = ()
        constant = None
        if reading.is_map(names[1]):
            second = reading.map(names[1])
            if not source.alike(second):
                msg = "maps of different sizes that are joined"
                raise UnsupportedError(msg)
            other = (reading.one(second),)
        elif (numbers := reading.numbers(names[1])) is not None:
            if source.last or source.scale > 1 or reading.channels[numbers] != len(source.order):
                msg = "numbers for other channels than a map has"
                raise UnsupportedError(msg)
            other = (numbers,)
        else:
            constant = _by_channel(_constant(reading, names[1]), source)
        output = reading.new(reading.channels[value])
        reading.add(Pointwise(kind, (value, *other), output, constant))
        return Map((output,), source.order, source.last)

    return read


def _quotient(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    del attributes
    source, name = reading.map(inputs[0]), inputs[1]
    value = reading.one(source)
    output = reading.new(reading.channels[value])
    reciprocal = np.reciprocal(_by_channel(_constant(reading, name), source))
    reading.add(Pointwise("mul", (value,), output, reciprocal))
    return Map((output,), source.order, source.last)


def _power(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    exponent = reading.constants.get(inputs[1])
    if exponent is None or exponent.size != 1 or exponent.item() != 2:
        msg = "a power other than the second"
        raise UnsupportedError(msg)
    return _unary("square")(reading, inputs[:1], attributes)


def read_mean(reading: Reading, inputs: list[str], attributes: Attributes, name: str) -> None:
    """Over the whole picture, for the outside."""
    source = reading.map(inputs[0])
    if len(inputs) > 1:
        axes = reading.constants.get(inputs[1], np.empty(0, np.int64)).tolist()
    else:
        axes = attributes.get("axes", ())  # none: over all of them
    if sorted(axis % 4 for axis in axes) != [2, 3] or attributes.get("keepdims", 1) != 1:
        msg = "a mean over other than rows and columns"
        raise UnsupportedError(msg)
    reading.give(Kind.SUMS, name, source)


def _by_channel(constant: Floats, source: Map) -> Floats:
    """One number for each channel of the map's value."""
    shape = (1,) * (4 - constant.ndim) + constant.shape
    count = len(source.order)
    axis = 3 if source.last else 1
    if len(shape) != 4 or any(size != 1 for place, size in enumerate(shape) if place != axis):
        msg = "a constant that is not the same for all pixels"
        raise UnsupportedError(msg)
    if shape[axis] not in (1, count):
        msg = "a constant of another number of channels"
        raise UnsupportedError(msg)
    spread = np.empty(source.order.size, np.float32)
    spread[source.order] = np.broadcast_to(constant.reshape(-1, 1, 1), source.order.shape)
    return spread


def _concat(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    sources = [reading.map(name) for name in inputs]
    if any(source.scale > 1 or source.last for source in sources) or int(attributes["axis"]) not in (1, -3):
        msg = "joining other than channels"
        raise UnsupportedError(msg)
    starts = np.cumsum([0, *(sum(reading.channels[value] for value in source.values) for source in sources)])
    order = np.concatenate([source.order + start for source, start in zip(sources, starts, strict=False)])
    return Map(tuple(value for source in sources for value in source.values), order)


def _transpose(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    source = reading.map(inputs[0])
    if tuple(attributes.get("perm", ())) != ((0, 3, 1, 2) if source.last else (0, 2, 3, 1)):
        msg = "rows and columns that change places"
        raise UnsupportedError(msg)
    return Map(source.values, source.order, not source.last)


def _norm(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    source = reading.map(inputs[0])
    if not source.last or source.scale > 1 or int(attributes.get("axis", -1)) not in (-1, 3):
        msg = "a norm over other than channels"
        raise UnsupportedError(msg)
    value, scale = reading.one(source), _constant(reading, inputs[1])
    shift = _constant(reading, inputs[2]) if len(inputs) > 2 and inputs[2] else np.zeros_like(scale)
    output = reading.new(len(scale))
    epsilon = float(attributes.get("epsilon", 1e-5))
    reading.add(Norm((value,), output, scale, shift, epsilon))
    return Map((output,), source.order, last=True)


def _identity(reading: Reading, inputs: list[str], attributes: Attributes) -> Map:
    del attributes
    return reading.map(inputs[0])


READERS: dict[str, Callable[[Reading, list[str], Attributes], Map]] = {
    "Add": _binary("add"),
    "Concat": _concat,
    "Conv": _convolution,
    "Div": _quotient,
    "DepthToSpace": _depth_to_space,
    "Gelu": _unary("gelu"),
    "Identity": _identity,
    "LayerNormalization": _norm,
    "LeakyRelu": _unary("leaky"),
    "Mul": _binary("mul"),
    "PRelu": _binary("prelu"),
    "Pow": _power,
    "Relu": _unary("relu"),
    "Sigmoid": _unary("sigmoid"),
    "Sub": _binary("sub"),
    "Transpose": _transpose,
}

MEANS: dict[str, dict[str, Any]] = {"GlobalAveragePool": {"axes": (2, 3)}, "ReduceMean": {}}
"""With attributes that they are as good as given."""

"""A network as the native engine sees it: a list of local operations on maps of the input's size.

Read from an artefact's ONNX graph. What has another size is written as maps of the input's: after ``DepthToSpace`` a
picture of r times the size is r * r maps, and a convolution of it is one of these maps, with zeros where a pixel has no
part in another. So the whole network stays on one grid, up to its result.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.optional import needs

Floats = NDArray[np.float32]


class UnsupportedError(Exception):
    """The engine has no kernel for this; the text says for what."""


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """Over all channels; zeros around the picture, one result for each pixel."""

    inputs: tuple[int, ...]
    """Values whose channels lie one behind the other."""
    output: int
    weight: Floats
    """(out, in, rows, columns), of odd sizes."""
    bias: Floats
    dilation: tuple[int, int]
    pieces: tuple[int, int] = (1, 1)
    """Of results and inputs, in equal parts: between some of them all weights may be zero."""

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns to each side."""
        return reach(self.weight, self.dilation)


@dataclass(frozen=True, slots=True, eq=False)
class Depthwise:
    """Of every channel by itself."""

    inputs: tuple[int]
    output: int
    weight: Floats
    """(channels, rows, columns)."""
    bias: Floats
    dilation: tuple[int, int]

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns to each side."""
        return reach(self.weight, self.dilation)


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """(x - mean) / sqrt(variance + epsilon) * scale + shift, over the channels of a pixel."""

    inputs: tuple[int]
    output: int
    scale: Floats
    shift: Floats
    epsilon: float

    reach = (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Pointwise:
    """One value from those of the same place."""

    kind: str
    """Of ``UNARY`` or ``BINARY``."""
    inputs: tuple[int, ...]
    output: int
    constant: Floats | None = None
    """By channel: the second operand, where it is no value."""
    alpha: float = 0.0

    reach = (0, 0)


UNARY = ("gelu", "relu", "leaky")
BINARY = ("add", "sub", "mul", "prelu")

Operation = Convolution | Depthwise | Norm | Pointwise


@dataclass(frozen=True, slots=True)
class Program:
    """A network."""

    channels: tuple[int, ...]
    """Of each value; value 0 is the input."""
    operations: tuple[Operation, ...]
    """In an order in which they can be done."""
    result: int
    order: NDArray[np.intp]
    """(3, scale, scale): which channel of the result is the pixel at that place of the enlarged one."""
    size: tuple[int, int] | None = None
    """Height and width, where the graph takes only these."""


def reach(weight: Floats, dilation: tuple[int, int]) -> tuple[int, int]:
    """How far a window goes to each side."""
    rows, columns = weight.shape[-2:]
    return rows // 2 * dilation[0], columns // 2 * dilation[1]


@dataclass(frozen=True, slots=True)
class _Map:
    """A tensor of the graph: channels of values, and which of them are whose pixels."""

    values: tuple[int, ...]
    order: NDArray[np.intp]
    """(C, r, r): the channel, counted over ``values``, of each pixel of the r times larger picture."""
    last: bool = False
    """Whether channels are its last axis."""

    @property
    def scale(self) -> int:
        return int(self.order.shape[1])

    def alike(self, other: "_Map") -> bool:
        return self.last == other.last and np.array_equal(self.order, other.order)


@dataclass(slots=True)
class _Reading:
    """The state of going through a graph."""

    constants: Mapping[str, NDArray[Any]]
    maps: dict[str, _Map] = field(default_factory=dict)
    channels: list[int] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def new(self, channels: int) -> int:
        self.channels.append(channels)
        return len(self.channels) - 1

    def plain(self, channels: int) -> _Map:
        """A map of a new value."""
        return _Map((self.new(channels),), np.arange(channels).reshape(channels, 1, 1))

    def one(self, source: _Map) -> int:
        """The only value of a map."""
        if len(source.values) != 1:
            msg = "an operation on joined channels that is no convolution"
            raise UnsupportedError(msg)
        return source.values[0]


def read_program(model: bytes) -> Program:
    """Of an artefact in float32 with free or fixed sizes.

    Raises:
        UnsupportedError: at the first operation that is not local or not known.
        MissingError: without the package onnx.
    """
    with needs("native"):
        import onnx
    graph = onnx.load_model_from_string(model).graph
    reading = _Reading({item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer})
    if len(graph.input) != 1 or len(graph.output) != 1:
        msg = "a graph of several inputs or outputs"
        raise UnsupportedError(msg)
    kinds = [item.type.tensor_type.elem_type for item in (graph.input[0], graph.output[0])]
    if kinds != [onnx.TensorProto.FLOAT] * 2:
        msg = "input or output in another type than float32"
        raise UnsupportedError(msg)
    reading.maps[graph.input[0].name] = reading.plain(3)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _READERS:
            msg = f"the operation {node.op_type}"
            raise UnsupportedError(msg)
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        (name,) = node.output
        reading.maps[name] = _READERS[node.op_type](reading, list(node.input), attributes)
    result = reading.maps[graph.output[0].name]
    if len(result.order) != 3:
        msg = f"a result of {len(result.order)} channels"
        raise UnsupportedError(msg)
    value = reading.one(result)
    operations = _needed(reading.operations, value)
    if not operations or isinstance(operations[-1], Depthwise):
        msg = "a result that is no more than the input, or a depthwise convolution's"
        raise UnsupportedError(msg)
    sides = [int(it.dim_value) for it in graph.input[0].type.tensor_type.shape.dim[2:]]
    size = (sides[0], sides[1]) if all(sides) else None
    return Program(tuple(reading.channels), operations, value, result.order, size)


def _needed(operations: list[Operation], result: int) -> tuple[Operation, ...]:
    """Those that the result hangs on, itself the last."""
    wanted, found = {result}, []
    for operation in reversed(operations):
        if operation.output in wanted:
            wanted |= set(operation.inputs)
            found.append(operation)
    return tuple(reversed(found))


_Attributes = Mapping[str, Any]


def _map(reading: _Reading, name: str) -> _Map:
    if name not in reading.maps:
        msg = "an operation on constants only"
        raise UnsupportedError(msg)
    return reading.maps[name]


def _constant(reading: _Reading, name: str) -> Floats:
    found = reading.constants.get(name)
    if found is None or found.dtype != np.float32:
        msg = "weights that are computed, or not in float32"
        raise UnsupportedError(msg)
    return found


def _convolution(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
    source, weight = _map(reading, inputs[0]), _constant(reading, inputs[1])
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
        reading.operations.append(Depthwise(source.values[:1], result.values[0], weight[:, 0], bias, dilation))
        return result
    dense = _ungrouped(weight, groups)
    wide, order = _on_the_grid(dense, source.order, dilation)
    output = reading.new(len(wide))
    phases = source.scale**2
    bias = np.tile(bias, phases)
    pieces = (phases, phases) if phases > 1 else (groups, groups)
    reading.operations.append(
        Convolution(source.values, output, wide, bias, (1, 1) if phases > 1 else dilation, pieces)
    )
    return _Map((output,), order)


def _check_window(weight: Floats, dilation: tuple[int, ...], attributes: _Attributes) -> None:
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


def _depth_to_space(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
    source, times = _map(reading, inputs[0]), int(attributes["blocksize"])
    scale, count = source.scale, len(source.order) // times**2
    if attributes.get("mode", b"DCR") == b"CRD":
        split = source.order.reshape(count, times, times, scale, scale)
    else:
        split = source.order.reshape(times, times, count, scale, scale).transpose(2, 0, 1, 3, 4)
    # Row (r y + e) of times rows each, of which this is the b-th.
    order = split.transpose(0, 3, 1, 4, 2).reshape(count, scale * times, scale * times)
    return _Map(source.values, np.ascontiguousarray(order), source.last)


def _unary(kind: str) -> Callable[[_Reading, list[str], _Attributes], _Map]:
    def read(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
        if attributes.get("approximate", b"none") != b"none":
            msg = "GELU that is approximated"
            raise UnsupportedError(msg)
        source = _map(reading, inputs[0])
        value = reading.one(source)
        output = reading.new(reading.channels[value])
        alpha = float(attributes.get("alpha", 0.01))
        reading.operations.append(Pointwise(kind, (value,), output, alpha=alpha))
        return _Map((output,), source.order, source.last)

    return read


def _binary(kind: str) -> Callable[[_Reading, list[str], _Attributes], _Map]:
    def read(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
        names = inputs if inputs[0] in reading.maps else inputs[::-1]
        if names != inputs and kind not in ("add", "mul"):
            msg = "a constant less a map"
            raise UnsupportedError(msg)
        source = _map(reading, names[0])
        value = reading.one(source)
        other: tuple[int, ...] = ()
        constant = None
        if names[1] in reading.maps:
            if not source.alike(reading.maps[names[1]]):
                msg = "maps of different sizes that are joined"
                raise UnsupportedError(msg)
            other = (reading.one(reading.maps[names[1]]),)
        else:
            constant = _by_channel(_constant(reading, names[1]), source)
        output = reading.new(reading.channels[value])
        reading.operations.append(Pointwise(kind, (value, *other), output, constant))
        return _Map((output,), source.order, source.last)

    return read


def _by_channel(constant: Floats, source: _Map) -> Floats:
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


def _concat(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
    sources = [_map(reading, name) for name in inputs]
    if any(source.scale > 1 or source.last for source in sources) or int(attributes["axis"]) not in (1, -3):
        msg = "joining other than channels"
        raise UnsupportedError(msg)
    starts = np.cumsum([0, *(sum(reading.channels[value] for value in source.values) for source in sources)])
    order = np.concatenate([source.order + start for source, start in zip(sources, starts, strict=False)])
    return _Map(tuple(value for source in sources for value in source.values), order)


def _transpose(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
    source = _map(reading, inputs[0])
    if tuple(attributes.get("perm", ())) != ((0, 3, 1, 2) if source.last else (0, 2, 3, 1)):
        msg = "rows and columns that change places"
        raise UnsupportedError(msg)
    return _Map(source.values, source.order, not source.last)


def _norm(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
    source = _map(reading, inputs[0])
    if not source.last or source.scale > 1 or int(attributes.get("axis", -1)) not in (-1, 3):
        msg = "a norm over other than channels"
        raise UnsupportedError(msg)
    value, scale = reading.one(source), _constant(reading, inputs[1])
    shift = _constant(reading, inputs[2]) if len(inputs) > 2 and inputs[2] else np.zeros_like(scale)
    output = reading.new(len(scale))
    epsilon = float(attributes.get("epsilon", 1e-5))
    reading.operations.append(Norm((value,), output, scale, shift, epsilon))
    return _Map((output,), source.order, last=True)


def _identity(reading: _Reading, inputs: list[str], attributes: _Attributes) -> _Map:
    del attributes
    return _map(reading, inputs[0])


_READERS: dict[str, Callable[[_Reading, list[str], _Attributes], _Map]] = {
    "Add": _binary("add"),
    "Concat": _concat,
    "Conv": _convolution,
    "DepthToSpace": _depth_to_space,
    "Gelu": _unary("gelu"),
    "Identity": _identity,
    "LayerNormalization": _norm,
    "LeakyRelu": _unary("leaky"),
    "Mul": _binary("mul"),
    "PRelu": _binary("prelu"),
    "Relu": _unary("relu"),
    "Sub": _binary("sub"),
    "Transpose": _transpose,
}

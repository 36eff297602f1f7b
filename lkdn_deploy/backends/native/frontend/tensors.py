"""Tensors of an ONNX graph as values of a program, and the program as it grows during the import."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.frontend.partition import Partition
from lkdn_deploy.backends.native.ir import (
    Boundary,
    BoundaryKind,
    ConvOp,
    Elementwise,
    Floats,
    Op,
    RowPooling,
    UnsupportedError,
    require,
)

MAX_JOINED = 1024
"""Limit of the channels that are copied together, since the copying weights grow with its square."""


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """A tensor of the graph in terms of the program's values."""

    values: tuple[int, ...]
    """Values whose channels are concatenated."""
    order: NDArray[np.intp]
    """(C, r, r), for a tensor r times as high and wide as the input: the channel, counted over ``values``, that holds
    channel C at each sub-pixel position."""
    channels_last: bool = False
    """Whether the tensor is NHWC."""

    @property
    def scale(self) -> int:
        """Height and width relative to the input's."""
        return int(self.order.shape[1])

    @property
    def one_channel(self) -> bool:
        """Whether it has one channel of the input's size, which applies to all channels of another tensor."""
        return self.order.size == 1 and not self.channels_last

    def same_layout(self, other: "FeatureMap") -> bool:
        """Return whether equal positions of both tensors are equal positions of their values."""
        return self.channels_last == other.channels_last and np.array_equal(self.order, other.order)


@dataclass(frozen=True, slots=True)
class RowWindows:
    """The largest numbers of all windows of adjacent rows of a map, which are computed only where they are used."""

    node: Any
    """The node of the graph that computes them."""
    side: int
    """Rows of a window."""


@dataclass(slots=True)
class ProgramBuilder:
    """A program under construction; the fields without a description are those of `Program`."""

    constants: dict[str, NDArray[Any]]
    """Tensors that are known, by name."""
    partition: Partition
    """Nodes that are left to another engine."""
    maps: dict[str, FeatureMap] = field(default_factory=dict)
    """Tensors that the program computes or imports, by name."""
    channels: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    boundaries: dict[int, Boundary] = field(default_factory=dict)
    producers: dict[int, Op] = field(default_factory=dict)
    """Operations by the value that they compute."""
    windows: dict[str, RowWindows] = field(default_factory=dict)
    """Tensors of windows over rows, by name."""
    poolings: dict[str, tuple[int, RowPooling]] = field(default_factory=dict)
    """Tensors of some of these windows by name, with the value of the map."""
    copied: dict[tuple[tuple[int, ...], bytes], int] = field(default_factory=dict)
    """Values that hold the channels of others, by these and by the order of the channels."""

    def new_value(self, channels: int, depth: int = 0) -> int:
        """Add a value, and return its number."""
        self.channels.append(channels)
        self.depths.append(depth)
        return len(self.channels) - 1

    def new_map(self, channels: int) -> FeatureMap:
        """Return a map of a new value, at the input's size."""
        return FeatureMap((self.new_value(channels),), np.arange(channels).reshape(channels, 1, 1))

    def add(self, op: Op) -> None:
        """Append an operation, and derive the depth of its output."""
        self.depths[op.output] = max(self.depths[value] for value in op.inputs)
        self.ops.append(op)
        self.producers[op.output] = op

    def single_value(self, source: FeatureMap) -> int:
        """Return the value of a map; where it has several, that of a convolution which copies them into one.

        Raises:
            UnsupportedError: if they are too many.
        """
        if len(source.values) == 1:
            return source.values[0]
        return self._copy(source.values, np.arange(sum(self.channels[value] for value in source.values)))

    def ordered_value(self, source: FeatureMap) -> int:
        """Return the value that has the channels of a map of the input's size in the tensor's order.

        Raises:
            UnsupportedError: if they must be copied and are too many.
        """
        order = source.order.reshape(-1)
        if len(source.values) == 1 and np.array_equal(order, np.arange(len(order))):
            return source.values[0]
        return self._copy(source.values, order)

    def _copy(self, values: tuple[int, ...], order: NDArray[np.intp]) -> int:
        """Return the value of a convolution that copies channels, counted over ``values``, in some order."""
        key, count = (values, order.tobytes()), len(order)
        if key not in self.copied:
            require(count <= MAX_JOINED, f"an operation other than a convolution on {count} concatenated channels")
            copies, value = np.eye(count, dtype=np.float32)[order][:, :, None, None], self.new_value(count)
            self.add(ConvOp(values, value, copies, np.zeros(count, np.float32), (1, 1)))
            self.copied[key] = value
        return self.copied[key]

    def is_result(self, value: int, kind: str, source: int) -> bool:
        """Return whether a value is the result of this elementwise function of another one."""
        op = self.producers.get(value)
        return isinstance(op, Elementwise) and op.kind == kind and op.inputs == (source,)

    def constant(self, name: str) -> Floats:
        """Return a float32 constant.

        Raises:
            UnsupportedError: if the tensor is not one.
        """
        found = self.constants.get(name)
        if found is None or found.dtype != np.float32:
            msg = "weights that are computed, or not in float32"
            raise UnsupportedError(msg)
        return found

    def map(self, name: str) -> FeatureMap:
        """Return a tensor as a map, imported if another engine computes it.

        Raises:
            UnsupportedError: if it does not have the input's size.
        """
        if name not in self.maps:
            channels = self.partition.map_channels(name)
            if channels is None:
                msg = "an operation on a tensor that does not have the input's size"
                raise UnsupportedError(msg)
            outside = self._import(self.partition.boundary(name), channels)
            self.maps[name] = found = self.new_map(channels)
            self.add(Elementwise((outside,), found.values[0], "copy"))
        return self.maps[name]

    def is_map(self, name: str) -> bool:
        """Return whether ``map`` would succeed."""
        return name in self.maps or self.partition.map_channels(name) is not None

    def is_inside(self, name: str) -> bool:
        """Return whether the program computes a tensor, which the other engine does not know."""
        return name in self.maps and name not in self.partition.depths

    def per_channel(self, name: str) -> int | None:
        """Return the value of a tensor that another engine computes, one number for each channel, or ``None``."""
        channels = self.partition.vector_channels(name)
        if channels is None:
            return None
        boundary = Boundary(BoundaryKind.PER_CHANNEL, name)
        known = (value for value, other in self.boundaries.items() if other == boundary)
        return next(known, None) or self._import(boundary, channels)

    def _import(self, boundary: Boundary, channels: int) -> int:
        for name in filter(None, (boundary.name, boundary.numbers)):
            self.partition.request(name)
        value = self.new_value(channels, self.partition.depths[boundary.name])
        self.boundaries[value] = boundary
        return value

    def export_value(self, boundary: Boundary, source: FeatureMap) -> int:
        """Export a map to the other engine, and return the value that leaves.

        Args:
            boundary: its format and name.
            source: the map to export.

        Raises:
            UnsupportedError: if the map is not an NCHW tensor of the input's size.
        """
        require(not source.channels_last and source.scale == 1, "an unsupported operator on an NHWC or large tensor")
        value = self.ordered_value(source)
        exported = self.export(boundary, self.channels[value], value)
        self.add(Elementwise((value,), exported, "copy"))
        return exported

    def export_rows(self, name: str) -> int:
        """Export a map for windows over its rows, unless it was, and return the value that leaves."""
        source = self.maps[name]
        value = self.ordered_value(source)
        for other, boundary in self.boundaries.items():
            if boundary.kind is BoundaryKind.ROWS and self.producers[other].inputs == (value,):
                return other
        return self.export_value(Boundary(BoundaryKind.ROWS, self.partition.unused(f"{name}/rows")), source)

    def add_pooling(self, value: int, pooling: RowPooling) -> None:
        """Add the largest numbers of windows over the rows of a map that is exported for these.

        Args:
            value: the value that leaves.
            pooling: the windows.
        """
        boundary = self.boundaries[value]
        self.boundaries[value] = replace(boundary, poolings=(*boundary.poolings, pooling))
        self.poolings[pooling.name] = value, pooling
        self.partition.depths[pooling.name] = self.partition.depths[boundary.name]
        for name in pooling.starts:
            self.partition.request(name)

    def offload(self, node: Any) -> None:
        """Leave a node to the other engine, to which the maps that it reads are exported.

        Raises:
            UnsupportedError: if one of them cannot be.
        """
        for name in node.input:
            if name in self.partition.depths:
                continue
            if name in self.windows:
                self.offload(self.windows[name].node)
            elif name in self.maps:
                self.export_value(Boundary(BoundaryKind.NCHW, name), self.maps[name])
        self.partition.offload(node)

    def export(self, boundary: Boundary, channels: int, *sources: int) -> int:
        """Add a value that is exported, and return its number.

        Args:
            boundary: its format and name.
            channels: number of its channels.
            sources: the values that it is computed of.
        """
        value = self.new_value(channels)
        self.boundaries[value] = boundary
        self.partition.depths[boundary.name] = max(self.depths[it] for it in sources) + 1
        return value

    def exported_map(self, name: str) -> tuple[int, Boundary]:
        """Return the value that is exported as a tensor of every second row and column, and how.

        Raises:
            UnsupportedError: if none is.
        """
        for value, boundary in self.boundaries.items():
            if (boundary.kind, boundary.name) == (BoundaryKind.EVERY_SECOND, name):
                return value, boundary
        msg = "a maximum over windows of other than a convolution of every second row and column"
        raise UnsupportedError(msg)


def split_channels(builder: ProgramBuilder, inputs: list[str], attributes: Mapping[str, Any]) -> list[int]:
    """Return the numbers of channels of the parts that a ``Split`` makes; ``validate`` has checked it.

    Args:
        builder: the program under construction.
        inputs: names of the node's inputs.
        attributes: its attributes, of which ``num_outputs`` must be there.
    """
    if inputs[1:2] > [""]:
        return [int(it) for it in builder.constants[inputs[1]]]
    parts = int(attributes["num_outputs"])
    return [len(builder.map(inputs[0]).order) // parts] * parts


def sliced_channels(builder: ProgramBuilder, inputs: list[str]) -> range:
    """Return the channels that a ``Slice`` along axis 1 takes.

    Args:
        builder: the program under construction.
        inputs: names of the node's inputs.
    """
    count = len(builder.map(inputs[0]).order)
    first, last = (int(builder.constants[name].item()) for name in inputs[1:3])
    return range(count)[first:last]

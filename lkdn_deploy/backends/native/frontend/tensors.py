"""Tensors of an ONNX graph as values of a program, and the program as it grows during the import."""

from dataclasses import dataclass, field
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
            rows = self.partition.interpolation_rows(name)
            boundary = Boundary(BoundaryKind.INTERP_ROWS, rows) if rows else Boundary(BoundaryKind.NCHW, name)
            outside = self._import(boundary, channels)
            self.maps[name] = found = self.new_map(channels)
            self.add(Elementwise((outside,), found.values[0], "copy"))
        return self.maps[name]

    def is_map(self, name: str) -> bool:
        """Return whether ``map`` would succeed."""
        return name in self.maps or self.partition.map_channels(name) is not None

    def per_channel(self, name: str) -> int | None:
        """Return the value of a tensor that another engine computes, one number for each channel, or ``None``."""
        channels = self.partition.vector_channels(name)
        if channels is None:
            return None
        boundary = Boundary(BoundaryKind.PER_CHANNEL, name)
        known = (value for value, other in self.boundaries.items() if other == boundary)
        return next(known, None) or self._import(boundary, channels)

    def _import(self, boundary: Boundary, channels: int) -> int:
        self.partition.request(boundary.name)
        value = self.new_value(channels, self.partition.depths[boundary.name])
        self.boundaries[value] = boundary
        return value

    def export_value(self, kind: BoundaryKind, name: str, source: FeatureMap) -> None:
        """Export a map to the other engine.

        Args:
            kind: NCHW, or ROW_SUMS for its mean.
            name: name of the tensor there.
            source: the map to export.

        Raises:
            UnsupportedError: if the map is not an NCHW tensor of the input's size.
        """
        require(not source.channels_last and source.scale == 1, "an unsupported operator on an NHWC or large tensor")
        value = self.ordered_value(source)
        exported = self.export(Boundary(kind, name), self.channels[value], value)
        self.add(Elementwise((value,), exported, "copy"))

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


def sliced_channels(builder: ProgramBuilder, inputs: list[str]) -> range:
    """Return the channels that a ``Slice`` along axis 1 takes.

    Args:
        builder: the program under construction.
        inputs: names of the node's inputs.
    """
    count = len(builder.map(inputs[0]).order)
    first, last = (int(builder.constants[name].item()) for name in inputs[1:3])
    return range(count)[first:last]

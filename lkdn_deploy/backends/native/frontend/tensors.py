"""A graph's tensors as maps of a program's values: what is known while the graph is read."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.frontend.partition import Elsewhere
from lkdn_deploy.backends.native.ir import Kind, Operation, Outside, Pointwise, UnsupportedError


@dataclass(frozen=True, slots=True)
class Map:
    """A tensor of the graph: channels of values, and which of them are whose pixels."""

    values: tuple[int, ...]
    order: NDArray[np.intp]
    """(C, r, r): the channel, counted over ``values``, of each pixel of the r times larger picture."""
    last: bool = False
    """Whether channels are its last axis."""

    @property
    def scale(self) -> int:
        return int(self.order.shape[1])

    def alike(self, other: "Map") -> bool:
        return self.last == other.last and np.array_equal(self.order, other.order)


@dataclass(slots=True)
class Reading:
    """The state of going through a graph."""

    constants: dict[str, NDArray[Any]]
    elsewhere: Elsewhere
    maps: dict[str, Map] = field(default_factory=dict)
    channels: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    outside: dict[int, Outside] = field(default_factory=dict)

    def new(self, channels: int, depth: int = 0) -> int:
        self.channels.append(channels)
        self.depths.append(depth)
        return len(self.channels) - 1

    def plain(self, channels: int) -> Map:
        """A map of a new value."""
        return Map((self.new(channels),), np.arange(channels).reshape(channels, 1, 1))

    def add(self, operation: Operation) -> None:
        self.depths[operation.output] = max(self.depths[value] for value in operation.inputs)
        self.operations.append(operation)

    def one(self, source: Map) -> int:
        """The only value of a map."""
        if len(source.values) != 1:
            msg = "an operation on joined channels that is no convolution"
            raise UnsupportedError(msg)
        return source.values[0]

    def map(self, name: str) -> Map:
        """A tensor of the graph, taken in where it is computed elsewhere."""
        if name not in self.maps:
            channels = self.elsewhere.planes(name)
            if channels is None:
                msg = "an operation on what is no map of the input's size"
                raise UnsupportedError(msg)
            lines = self.elsewhere.lines(name)
            kind, there = (Kind.PLANES, name) if lines is None else (Kind.LINES, lines)
            self.elsewhere.take_in(there)
            planes = self.new(channels, self.elsewhere.depths[name])
            self.outside[planes] = Outside(kind, there)
            self.maps[name] = found = self.plain(channels)
            self.add(Pointwise("copy", (planes,), found.values[0]))
        return self.maps[name]

    def is_map(self, name: str) -> bool:
        """Whether ``map`` has one."""
        return name in self.maps or self.elsewhere.planes(name) is not None

    def numbers(self, name: str) -> int | None:
        """A tensor that is computed elsewhere and is one number for each channel."""
        channels = self.elsewhere.numbers(name)
        if channels is None:
            return None
        for value, there in self.outside.items():
            if there == Outside(Kind.NUMBERS, name):
                return value
        self.elsewhere.take_in(name)
        value = self.new(channels, self.elsewhere.depths[name])
        self.outside[value] = Outside(Kind.NUMBERS, name)
        return value

    def give(self, kind: Kind, name: str, source: Map) -> None:
        """To the outside, as the tensor of that name."""
        value = self.one(source)
        if source.last or source.scale > 1:
            msg = "a map of another order of axes or another size, outside the engine"
            raise UnsupportedError(msg)
        given = self.new(self.channels[value])
        self.outside[given] = Outside(kind, name)
        self.add(Pointwise("copy", (value,), given))
        self.elsewhere.depths[name] = self.depths[value] + 1

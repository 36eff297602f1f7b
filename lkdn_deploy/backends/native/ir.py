"""A network as the native engine sees it: a list of local operations on maps of the input's size.

What has another size is written as maps of the input's: after ``DepthToSpace`` a picture of r times the size is r * r
maps, and a convolution of it is one of these maps, with zeros where a pixel has no part in another. So the whole
network stays on one grid, up to its result.

What cannot be written so (means over the picture and what is made of them, small maps of large windows) is outside:
there the whole picture must be known first. How often that happens before a value can be computed is its depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


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


UNARY = ("copy", "gelu", "relu", "leaky", "sigmoid", "square")
BINARY = ("add", "sub", "mul", "prelu")


class Kind(Enum):
    """How values come from the outside or go there; within, they are maps."""

    PLANES = "planes"
    """A map as the rest of the world has it, (C, H, W)."""
    LINES = "lines"
    """Some rows of planes, evenly spread over the picture's, between which the others lie; from the outside only."""
    SUMS = "sums"
    """Of the rows of a map, by channel, which give its means; to the outside only."""
    NUMBERS = "numbers"
    """One for each channel; from the outside only."""


@dataclass(frozen=True, slots=True)
class Outside:
    """A value that comes from the outside or goes there."""

    kind: Kind
    name: str
    """Of the tensor there: (1, C, H, W); (1, C, h, W) for lines; (1, C, 1, 1) for sums, as means, and numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Detour:
    """A part of the graph that there are no kernels for, done on whole tensors before all else of its depth."""

    depth: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: bytes
    """For ONNX Runtime."""


Operation = Convolution | Depthwise | Norm | Pointwise


@dataclass(frozen=True, slots=True)
class Program:
    """A network."""

    channels: tuple[int, ...]
    """Of each value; value 0 is the input."""
    depths: tuple[int, ...]
    """Of each value."""
    operations: tuple[Operation, ...]
    """In an order in which they can be done."""
    result: int
    order: NDArray[np.intp]
    """(3, scale, scale): which channel of the result is the pixel at that place of the enlarged one."""
    size: tuple[int, int] | None = None
    """Height and width, where the graph takes only these."""
    outside: Mapping[int, Outside] = field(default_factory=dict)
    """The values that are not maps, the input among them."""
    detours: tuple[Detour, ...] = ()
    """By depth."""

    @property
    def given(self) -> frozenset[int]:
        """The values that come from the outside."""
        return frozenset(self.outside) - {operation.output for operation in self.operations}


def reach(weight: Floats, dilation: tuple[int, int]) -> tuple[int, int]:
    """How far a window goes to each side."""
    rows, columns = weight.shape[-2:]
    return rows // 2 * dilation[0], columns // 2 * dilation[1]

"""The intermediate representation: a network as local operations on feature maps of the input's height and width.

Tensors of another size are expressed on the same grid. After ``DepthToSpace``, an image r times as large is r * r maps,
one for each sub-pixel position, and a convolution of it is a convolution of these maps, with zeros where an output
position does not use an input position.

What cannot be expressed so (means over the image, maps of a fraction of its size, and what is computed of them) is
left to another engine as a `Subgraph`. Such a value depends on the whole image, so everything before it must be
complete. The number of these barriers before a value can be computed is its depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class UnsupportedError(Exception):
    """A graph that the compiler has no kernels for; the text is a noun phrase that names the obstacle."""


class MalformedError(UnsupportedError):
    """A graph that breaks a rule of ONNX, so that no engine can run it."""


def require(condition: bool, otherwise: str, kind: type[UnsupportedError] = UnsupportedError) -> None:
    """Check a condition for the compilation of a graph.

    Args:
        condition: what must hold.
        otherwise: a noun phrase that names the obstacle.
        kind: class of the error.

    Raises:
        UnsupportedError: if it does not hold.
    """
    if not condition:
        raise kind(otherwise)


@dataclass(frozen=True, slots=True, eq=False)
class _Op:
    inputs: tuple[int, ...]
    """Values that are read."""
    output: int
    """Value that is computed."""

    @property
    def radius(self) -> tuple[int, int]:
        """Rows and columns that are read to each side of a pixel."""
        return 0, 0


@dataclass(frozen=True, slots=True, eq=False)
class _WindowOp(_Op):
    weight: Floats
    bias: Floats
    dilation: tuple[int, int]
    """Step between taps, vertically and horizontally."""

    @property
    def radius(self) -> tuple[int, int]:
        """Rows and columns that are read to each side of a pixel."""
        rows, columns = self.weight.shape[-2:]
        return rows // 2 * self.dilation[0], columns // 2 * self.dilation[1]


@dataclass(frozen=True, slots=True, eq=False)
class ConvOp(_WindowOp):
    """A convolution over the concatenated channels of all inputs, with stride 1 and zero padding to the same size.

    ``weight`` is (out, in, rows, columns), rows and columns odd.
    """

    blocks: tuple[int, int] = (1, 1)
    """Number of equal parts of outputs and of inputs, where all weights between some of them may be zero."""
    first: tuple[int, int] | None = None
    """The first row and column, 0 or 1, of every second one for which it is computed; ``None``: for all."""
    minimal: bool = False
    """Whether it is a `winograd` convolution, whose inputs are factors of values, and whose ``weight`` has a column for
    each position of a tile."""
    paired: bool = False
    """Whether it also filters two rows at once, so that ``weight`` has four rows instead of three."""

    @property
    def radius(self) -> tuple[int, int]:
        """Rows and columns that are read to each side of a pixel."""
        rows, columns = super(ConvOp, self).radius
        return 1 if self.paired else rows, 0 if self.minimal else columns


@dataclass(frozen=True, slots=True, eq=False)
class FactorsOp(_Op):
    """The factors of a value for convolutions by minimal filtering; see ``winograd``."""

    @property
    def radius(self) -> tuple[int, int]:
        """Rows and columns that are read to each side of a pixel."""
        return 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class DepthwiseOp(_WindowOp):
    """A convolution of each channel on its own; ``weight`` is (channels, rows, columns)."""


@dataclass(frozen=True, slots=True, eq=False)
class NormOp(_Op):
    """Layer normalisation over the channels of a pixel: (x - mean) / sqrt(variance + epsilon) * scale + shift."""

    scale: Floats
    shift: Floats
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Elementwise(_Op):
    """A function of one or two values at the same pixel and channel; the second may have one channel for all."""

    kind: str
    """Key of ``codegen.activations.UNARY`` or ``BINARY``, or leaky_relu."""
    constant: Floats | None = None
    """(channels,), the second operand where it is not a value."""
    alpha: float = 0.0
    """Slope of leaky_relu for negative numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class SelectOp(_Op):
    """Adjacent channels of a value, from ``first``, as many as the output has."""

    first: int


Op = ConvOp | FactorsOp | DepthwiseOp | NormOp | Elementwise | SelectOp


class BoundaryKind(Enum):
    """The memory format in which a value enters or leaves the compiled code."""

    NCHW = "nchw"
    """A whole feature map, (C, H, W)."""
    ROWS = "rows"
    """Output only: a whole map as it is stored in rows, (H, floats of a row), of which every `RowPooling` is."""
    INTERP_ROWS = "interp_rows"
    """Input only: (C, h, W), a map's rows at evenly spaced positions, between which the others are interpolated; or
    rows of which all of the map's are copies."""
    EVERY_SECOND = "every_second"
    """Output only: (C, h, w), every second row and column of a map, for which `ConvOp.first` has a convolution."""
    ROW_SUMS = "row_sums"
    """Output only: (H, C), the sum of each row of a map, from which its mean is computed."""
    PER_CHANNEL = "per_channel"
    """Input only: one number for each channel."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """The largest numbers of square windows of a map, as another tensor."""

    name: str
    side: int
    step: int
    """Rows and columns from one window to the next."""


@dataclass(frozen=True, slots=True)
class RowPooling:
    """The largest numbers of windows of adjacent rows of a map, (1, C, windows, W), as another tensor."""

    name: str
    side: int
    """Rows of a window."""
    starts: tuple[str, ...]
    """Tensors of the first row of each window. A window of several is that of each of them together."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A value that enters or leaves the compiled code."""

    kind: BoundaryKind
    """Its memory format."""
    name: str
    """The tensor on the other side: (1, C, H, W) for NCHW, (1, C, h, W) for INTERP_ROWS, (1, C, h, w) for EVERY_SECOND,
    and (1, C, 1, 1) for PER_CHANNEL and for ROW_SUMS, as the mean; none for ROWS."""
    first: tuple[int, int] = (0, 0)
    """The first row and column that EVERY_SECOND has."""
    poolings: tuple[Pooling | RowPooling, ...] = ()
    """Tensors on the other side that are computed of it alone; for ROWS, each is a `RowPooling`."""
    numbers: str | None = None
    """The tensor of the row that each of the map's is a copy of, where INTERP_ROWS does not interpolate."""
    summed: bool = False
    """Whether ROW_SUMS is the sum, not the mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Subgraph:
    """A part of the graph without kernels here. Another engine runs it before the operations of the same depth."""

    depth: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: bytes
    """A serialised ONNX model with inputs and outputs of these names."""


@dataclass(frozen=True, slots=True)
class Program:
    """A network: operations, in an order of execution, on numbered values, of which 0 is the input."""

    channels: tuple[int, ...]
    """Number of channels of each value."""
    depths: tuple[int, ...]
    """Depth of each value."""
    ops: tuple[Op, ...]
    result: int
    """Value that holds the output image."""
    pixel_order: NDArray[np.intp]
    """Channels of ``result`` that are the output's sub-pixels at each position, (3, scale, scale)."""
    fixed_size: tuple[int, int] | None = None
    """Height and width, where the graph accepts no other."""
    boundaries: Mapping[int, Boundary] = field(default_factory=dict)
    """Values that enter or leave the compiled code, the input included."""
    subgraphs: tuple[Subgraph, ...] = ()
    """Subgraphs in ascending depth."""

    @property
    def imported(self) -> frozenset[int]:
        """The values that enter from outside."""
        return frozenset(self.boundaries) - {op.output for op in self.ops}

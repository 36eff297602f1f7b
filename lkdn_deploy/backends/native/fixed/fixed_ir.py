"""The fixed-point program: a program whose values are 16-bit integers, apart from islands in float32.

The stored number of a channel is its real value times the channel's scale. All scales are in the weights: a convolution
sums products of 16-bit integers in 32 bits, shifts the sum right, and saturates. Zero is 0 in every format, so that
padding is too. `reference` executes such a program; compiled code gives the same bits.

Integer arithmetic, with ``sat`` for the nearest number within -32768 and 32767, ``>>`` for the arithmetic shift, and

    mulhrs(a, b) = (a * b + 0x4000) >> 15

Float32 arithmetic is IEEE's, each operation rounded to nearest even. ``fma`` rounds once where the processor has that
instruction; otherwise the product is rounded too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Floats, Program

Shorts = NDArray[np.int16]
Ints = NDArray[np.int32]
Doubles = NDArray[np.float64]

LOWEST, HIGHEST = -32768, 32767
"""The range of an integer; a value that is stored as one of them may be saturated."""

INPUT_SCALE = 128 * 255
"""Scale of the input image: 128 for each level of an 8-bit picture."""

RESULT_SHIFT = 6
RESULT_SCALE = 255 << RESULT_SHIFT
"""Scale of the output image. A pixel is (q + 32) >> 6, clipped to 0..255; as float32, q / ``RESULT_SCALE``."""

PIECES = 16
"""Pieces of a `ResidueTable`."""


class Storage(Enum):
    """The type of the stored numbers of a value."""

    INT16 = "int16"
    FLOAT32 = "float32"


@dataclass(frozen=True, slots=True, eq=False)
class ValueFormat:
    """The stored form of a value."""

    storage: Storage
    scale: Doubles
    """(channels,), the stored number of 1.0, greater than 0."""
    watch_low: bool = False
    """Whether a stored ``LOWEST`` means that the result may be wrong."""
    watch_high: bool = False
    """Whether a stored ``HIGHEST`` means that the result may be wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class _FixedOp:
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True, eq=False)
class FixedConv(_FixedOp):
    """A convolution of INT16 values: sum = bias + sum of weight * input, in 32 bits without overflow in any order.

    To INT16, the result is sat(sum >> shift), and the rounding is in the bias. To FLOAT32, it is float32(sum) * factor.
    """

    weight: Shorts
    """(out, in, rows, columns); (channels, rows, columns) of a depthwise convolution."""
    bias: Ints
    """(out,)."""
    shift: Ints | None
    """(out,), 0 to 31, of a result in INT16."""
    factor: Floats | None
    """(out,), of a result in FLOAT32."""


@dataclass(frozen=True, slots=True, eq=False)
class FixedActivation(_FixedOp):
    """An activation a(x) = max(x, 0) - r(abs(x)) of INT16 to INT16, where the residue r is a table.

    By channel, with numbers of 16 bits and ``unsigned`` for the bits of a number read as 0..65535::

        c = min(unsigned(abs(x)), end)           abs(-32768) is 32768
        i = mulhrs(c, step)                      0..15, the nearest piece
        s = int16(c * (2 * step))                the low 16 bits: where in the piece, from -32768 to 32767
        r = t0[i] + mulhrs(t1[i] + mulhrs(t2[i], s), s)
        result = max(x, 0) - mulhrs(r, factor)

    No sum here leaves 16 bits.
    """

    table: str
    """Key of ``FixedProgram.tables``."""
    end: Shorts
    """(channels,), above 0."""
    step: Shorts
    """(channels,), 16 to 16383."""
    factor: Shorts
    """(channels,), above 0."""


@dataclass(frozen=True, slots=True, eq=False)
class FixedElementwise(_FixedOp):
    """An elementwise operation of INT16 to INT16, all of one scale; the second may have one channel for all.

    ``copy``: x; ``relu``: max(x, 0); ``leaky``: max(x, 0) + mulhrs(min(x, 0), constant); ``add``: sat(x + y);
    ``sub``: sat(x - y); ``max`` and ``min``. The sum of ``leaky`` never leaves 16 bits.
    """

    kind: str
    constant: Shorts | None = None
    """(channels,), the second operand where it is not a value."""


@dataclass(frozen=True, slots=True, eq=False)
class FixedSelect(_FixedOp):
    """Adjacent channels of a value of the same format, from ``first``."""

    first: int


@dataclass(frozen=True, slots=True, eq=False)
class FloatElementwise(_FixedOp):
    """An elementwise operation in float32; the second operand may have one channel for all.

    An operand x is float32(x) * factor, or float32(x) without one. To INT16, the result is rounded to nearest even and
    saturated; then no operand leads to NaN.
    """

    kind: str
    """Key of ``codegen.activations.UNARY`` or ``BINARY``, or leaky_relu."""
    factors: tuple[Floats | None, ...]
    """Factor of each input, (channels of the input,)."""
    constant: Floats | None = None
    """(channels,), the second operand where it is not a value."""
    alpha: float = 0.0
    """Slope of leaky_relu for negative numbers."""
    result_factor: Floats | None = None
    """(channels,), by which the result is multiplied before it is stored."""


@dataclass(frozen=True, slots=True, eq=False)
class FloatNorm(_FixedOp):
    """A normalisation over the channels of a pixel in float32, as ``codegen.stage`` computes it.

    An operand x is float32(x) * factor, or float32(x) without one. It is centred already, or its mean is subtracted::

        r = 1 / sqrt(fma(sum of squares, 1 / channels, epsilon))
        result = fma(x * r, scale, shift)

    To INT16, the result is rounded to nearest even and saturated.
    """

    factor: Floats | None
    """(channels,), of the input."""
    centred: bool
    epsilon: float
    scale: Floats
    """(channels,), in units of the result."""
    shift: Floats
    """(channels,), in units of the result."""


FixedOp = FixedConv | FixedActivation | FixedElementwise | FixedSelect | FloatElementwise | FloatNorm


@dataclass(frozen=True, slots=True, eq=False)
class ResidueTable:
    """The residue of an activation, in 16 pieces of the second degree."""

    coefficients: Shorts
    """(3, ``PIECES``): t0, t1, t2 of `FixedActivation`."""


@dataclass(frozen=True, slots=True, eq=False)
class FixedProgram:
    """A program in fixed point."""

    program: Program
    """The real-valued program, on whose values and operations this one is built: it is what is scheduled."""
    formats: tuple[ValueFormat, ...]
    """Format of each value."""
    ops: Mapping[int, FixedOp]
    """The operation that computes a value, for each operation of ``program``."""
    tables: Mapping[str, ResidueTable]
    """Tables of activations, by name."""

    @property
    def watched(self) -> tuple[int, ...]:
        """The values whose extremes are recorded in a run, in ascending order."""
        return tuple(value for value, it in enumerate(self.formats) if it.watch_low or it.watch_high)

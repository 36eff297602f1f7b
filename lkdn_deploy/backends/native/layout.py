"""The memory layout of feature maps: vectors whose lanes hold columns far apart, so that neighbours need no shuffles.

A row of W columns is cut into as many stretches as a vector has lanes, each ``vectors`` columns long. Vector v of a
channel holds the v-th column of each stretch:

    lane l of vector v is column l * vectors + v

A convolution's taps to the left and right are therefore whole, aligned vectors. Only beyond the ends of a row must
lanes be shifted: halo vectors hold what lies there (zeros outside the image). A row is stored in blocks of ``BLOCK``
vectors, either block by block, (blocks, channels, BLOCK, lanes), or, as depthwise convolutions read and write it,
channel by channel, (channels, vectors, lanes); with padding between blocks or channels.

A lane has 32 bits: a float32, or a pair of 16-bit integers. Pairs are two channels of one column, which then count as
one channel, called a plane; or two adjacent columns of one channel, which halves the vectors; or, for a dilated
convolution, two rows of one channel that are as far apart as its taps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Floats

BLOCK = 2
"""Vectors that a kernel computes at once. More would need more columns than small images have."""

LINE = 16
"""Floats in a cache line of most processors."""

PAGE = 2**21 // 4
"""Floats in a huge page of most systems."""

ALLOCATION_OVERHEAD = PAGE + 2**22 // 4
"""Floats by which an allocation may exceed what it holds."""

_HUGE_PAGE_REQUEST = 2**22 // 4
"""Floats from which on NumPy asks the system for huge pages."""

_FEW_OUTPUTS = 5
"""Output channels that a convolution can accumulate with 16 vector registers, as AVX2 and WebAssembly have."""


class LaneFormat(Enum):
    """The content of a lane."""

    FLOAT = "float"
    """A float32."""
    CHANNELS = "channels"
    """16-bit integers of two adjacent channels."""
    COLUMNS = "columns"
    """16-bit integers of two adjacent columns, the first of them even."""
    ROWS = "rows"
    """16-bit integers of a column in two rows. With the rows n apart, 2 n rows in a row make n such pairs of rows."""

    @property
    def channels(self) -> int:
        """Channels in a plane."""
        return 2 if self is LaneFormat.CHANNELS else 1

    @property
    def block_vectors(self) -> int:
        """Vectors of a plane in a block."""
        return 1 if self is LaneFormat.COLUMNS else BLOCK


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The layout of rows for images of one size and vectors of one width."""

    height: int
    width: int
    lanes: int
    unit: int = BLOCK
    """Number of vectors of which a row has a multiple: those of a block, or of several."""

    @property
    def vectors(self) -> int:
        """Vectors of a row without its halo: a whole number of blocks."""
        return -(-self.width // (self.lanes * self.unit)) * self.unit

    @property
    def columns(self) -> int:
        """Columns that a row's vectors hold: the image's, and those that fill up the last vectors."""
        return self.vectors * self.lanes

    @property
    def blocks(self) -> int:
        """Blocks of a row without its halo."""
        return self.vectors // BLOCK

    def row_floats(
        self, channels: int, halo: int, *, channel_major: bool, lane_format: LaneFormat = LaneFormat.FLOAT
    ) -> int:
        """Return the size of one row of a value, as a number of lanes.

        Args:
            channels: number of channels.
            halo: columns stored on each side of the row.
            channel_major: whether the row is stored channel by channel.
            lane_format: content of a lane.
        """
        planes, blocks = channels // lane_format.channels, self.blocks + 2 * halo_blocks(halo)
        if channel_major:
            return planes * (blocks * lane_format.block_vectors | 1) * self.lanes
        return blocks * block_floats(planes, self.lanes)


def inside(rows: RowLayout) -> NDArray[np.int32]:
    """Return words whose bits are set for what is inside the image, (vectors + blocks, lanes): of each column of a row,
    then of each pair of columns, the second in the high half."""
    columns = np.arange(rows.vectors)[:, None] + rows.vectors * np.arange(rows.lanes)
    words = np.where(columns < rows.width, -1, 0).astype(np.int32)
    pairs = (words[::2] & 0xFFFF) | (words[1::2] << 16)
    return np.concatenate([words, pairs])


def block_floats(channels: int, lanes: int) -> int:
    """Return the distance between the blocks of a row: an odd number of cache lines.

    With an even number, one channel of many blocks would compete for the few places that a cache has for their
    addresses.
    """
    lines = -(-channels * BLOCK * lanes // LINE)
    return (lines + 1 - lines % 2) * LINE


def halo_blocks(halo: int) -> int:
    """Return the number of blocks that hold ``halo`` columns on one side."""
    return -(-halo // BLOCK)


def output_parts(max_outputs: int) -> Callable[[int, int], list[int]]:
    """Return the function that divides output channels into parts, which are computed one after the other.

    Its arguments are the number of channels and the most that a part may have; its result are the bounds of the parts.
    Equal parts spare the code of a second size, but may have half as many channels as fit in registers. Each part loads
    all inputs, which is dear where parts are small anyway.

    Args:
        max_outputs: number of channels that a convolution can accumulate in registers at once.
    """
    return _full_parts if max_outputs <= _FEW_OUTPUTS else _equal_parts


def _equal_parts(count: int, most: int) -> list[int]:
    """Return the bounds of parts of at most ``most``: equal ones unless they would be small."""
    number = -(-count // most)
    equal = next(it for it in range(number, count + 1) if count % it == 0)
    number = equal if equal <= 2 * number else number
    return [count * part // number for part in range(number + 1)]


def _full_parts(count: int, most: int) -> list[int]:
    """Return the bounds of parts of ``most``, and of a last one of what is left."""
    return [*range(0, count, most), count]


def whole_lines(count: int) -> int:
    """Return the number of floats in the cache lines that ``count`` floats occupy."""
    return -(-count // LINE) * LINE


def aligned(count: int, unit: int = LINE) -> Floats:
    """Return uninitialised memory for ``count`` floats, aligned to a cache line or another number of floats."""
    memory = np.empty(count + unit, np.float32)
    start = -(memory.ctypes.data // 4) % unit
    return memory[start : start + count]


def allocate(sizes: list[int], gap: int = 0) -> tuple[Floats, list[Floats]]:
    """Return memory that is aligned to a huge page, uninitialised, and an array of each size in it.

    In small pages, whose physical addresses are arbitrary, line buffers would evict each other from the second-level
    cache. ``gap`` is the number of floats between arrays.
    """
    starts = list(accumulate((whole_lines(size) + gap for size in sizes), initial=gap))
    memory = aligned(max(starts[-1], _HUGE_PAGE_REQUEST), PAGE)
    return memory, [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def aligned_copy(values: Floats) -> Floats:
    """Return a copy that is aligned to a cache line."""
    copy = aligned(values.size)
    copy[:] = values
    return copy

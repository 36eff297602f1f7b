"""How values lie in memory: a vector's lanes hold columns far apart, so that a neighbour is in another vector's lane.

A row of W columns is cut into as many stretches as a vector has lanes, each ``steps`` columns long. Vector v of a
channel holds the v-th column of each stretch:

    lane l of vector v is column l * steps + v

so a window's columns are found in the vectors beside, whole and aligned, and only at the ends of a row must lanes be
shifted: margins of vectors hold what lies beyond (zeros outside the picture). Rows are stored in blocks of ``BLOCK``
vectors, either all channels of a block together, (blocks, channels, BLOCK, lanes), or one channel after the other,
(channels, vectors, lanes), which is what a depthwise convolution takes and gives; with gaps between blocks or channels.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from lkdn_deploy.backends.native.ir import Floats

BLOCK = 2
"""Vectors that a kernel does at once. More would need more columns than small pictures have."""


LINE = 16
"""Floats of a line of the caches, as most processors have them."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Of pictures of one size."""

    height: int
    width: int
    lanes: int

    @property
    def steps(self) -> int:
        """Vectors of a row, without margins: a whole number of blocks."""
        return -(-self.width // (self.lanes * BLOCK)) * BLOCK

    @property
    def columns(self) -> int:
        """Of a row's vectors, without margins: the picture's, and what fills up the last of them."""
        return self.steps * self.lanes

    @property
    def blocks(self) -> int:
        """Of a row."""
        return self.steps // BLOCK

    def row_floats(self, channels: int, margin: int, *, by_channel: bool) -> int:
        """Of one row of a value whose margin is so many columns."""
        if by_channel:
            return channels * (self.steps + 2 * margin_blocks(margin) * BLOCK | 1) * self.lanes
        return (self.blocks + 2 * margin_blocks(margin)) * block_floats(channels, self.lanes)


def block_floats(channels: int, lanes: int) -> int:
    """From one block to the next: an odd number of the cache's lines.

    One channel of many blocks would else meet in the few places that a cache has for addresses so far apart.
    """
    lines = -(-channels * BLOCK * lanes // LINE)
    return (lines + 1 - lines % 2) * LINE


def margin_blocks(margin: int) -> int:
    """Blocks that hold so many columns to one side."""
    return -(-margin // BLOCK)


def pieces(sizes: list[int]) -> list[Floats]:
    """Memory for each of so many numbers, all in one piece that begins with one of the system's large pages.

    In small pages, which lie anywhere, rows that are kept would meet in the second-level cache.
    """
    starts = list(accumulate((whole_lines(size) for size in sizes), initial=0))
    memory = aligned(max(starts[-1], ASKED_FOR), PAGE)
    return [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def whole_lines(count: int) -> int:
    """Numbers in as many lines of the cache as so many take."""
    return -(-count // LINE) * LINE


PAGE = 2**21 // 4
"""Floats of a large page, as most systems have them."""

ASKED_FOR = 2**22 // 4
"""Floats for which NumPy asks for large pages."""


def aligned(count: int, unit: int = LINE) -> Floats:
    """Memory for so many numbers, beginning with a line of the cache, or another unit."""
    memory = np.empty(count + unit, np.float32)
    start = -(memory.ctypes.data // 4) % unit
    return memory[start : start + count]

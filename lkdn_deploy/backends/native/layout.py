"""How values lie in memory: a vector's lanes hold columns far apart, so that a neighbour is in another vector's lane.

A row of W columns is cut into as many stretches as a vector has lanes, each ``steps`` columns long. Vector v of a
channel holds the v-th column of each stretch:

    lane l of vector v is column l * steps + v

so a window's columns are found in the vectors beside, whole and aligned, and only at the ends of a row must lanes be
shifted: margins of vectors hold what lies beyond (zeros outside the picture). Rows are stored in blocks of ``BLOCK``
vectors, all channels of a block together: (blocks, channels, BLOCK, lanes).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 2
"""Vectors that a kernel does at once. More would need more columns than small pictures have."""


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
    def blocks(self) -> int:
        """Of a row."""
        return self.steps // BLOCK

    def row_floats(self, channels: int, margin: int) -> int:
        """Of one row of a value whose margin is so many columns."""
        return (self.blocks + 2 * margin_blocks(margin)) * channels * BLOCK * self.lanes

    def spread(self, planes: NDArray[np.float32], margin: int) -> NDArray[np.float32]:
        """(C, H, W) as rows: (H, blocks, C, BLOCK, lanes) with margins."""
        beyond = margin_blocks(margin) * BLOCK
        vectors = np.arange(-beyond, self.steps + beyond)
        columns = np.arange(self.lanes)[None, :] * self.steps + vectors[:, None]
        columns[(columns < 0) | (columns >= self.width)] = self.width
        padded = np.zeros((*planes.shape[:2], self.width + 1), np.float32)
        padded[:, :, :-1] = planes
        taken = padded[:, :, columns.reshape(-1, BLOCK, self.lanes)]
        return np.ascontiguousarray(taken.transpose(1, 2, 0, 3, 4))


def margin_blocks(margin: int) -> int:
    """Blocks that hold so many columns to one side."""
    return -(-margin // BLOCK)

"""Pairs of rows in the lanes of a row of fixed point; see ``layout.LaneFormat``.

With the rows of a pair n apart, row y belongs to a round of 2 n rows, and to the pair y modulo n of that round. Line
buffers store pairs in this order.
"""

from dataclasses import dataclass
from typing import Any

from lkdn_deploy.jit.builder import INT, SHORT, Builder


@dataclass(frozen=True, slots=True)
class RowPair:
    """The pair of rows to which a row belongs."""

    builder: Builder
    y: Any
    """The row."""
    distance: int
    """Rows from the first of a pair to the second."""

    def is_second(self) -> Any:
        """Return 1 if the row is the second of the pair, else 0."""
        b = self.builder
        return b.and_(b.udiv(self.y, INT(self.distance)), INT(1))

    def first(self) -> Any:
        """Return the first row of the pair."""
        return self.builder.sub(self.y, self.builder.mul(self.is_second(), INT(self.distance)))

    def number(self) -> Any:
        """Return the number of the pair, in the order in which they are stored."""
        b, rows = self.builder, INT(2 * self.distance)
        first = self.first()
        return b.add(b.mul(b.udiv(self.y, rows), INT(self.distance)), b.urem(first, rows))

    def store(self, columns: Any, target: Any, zeros: Any) -> None:
        """Store two adjacent columns in the row's half of the lanes of two vectors.

        The first row of a pair clears the other half, which remains where the second is beyond the image.

        Args:
            columns: 16-bit integers of the two columns in each lane.
            target: address of the two vectors.
            zeros: address of two vectors of zeros.
        """
        b, second = self.builder, self.is_second()
        up = b.mul(second, INT(16))
        left, right = (b.splat(b.trunc(it, SHORT), b.shorts) for it in (up, b.sub(INT(16), up)))
        mine = b.splat(b.trunc(b.shl(INT(0xFFFF), up), SHORT), b.shorts)
        others = b.not_(mine)
        before = b.select(b.icmp_signed("!=", second, INT(0)), target, zeros)
        for part, moved in enumerate((b.shl(columns, left), b.lshr(columns, right))):
            kept = b.and_(b.bitcast(b.load_vector(b.at(before, part * b.lanes)), b.shorts), others)
            b.store_vector(b.or_(b.and_(moved, mine), kept), b.at(target, part * b.lanes))

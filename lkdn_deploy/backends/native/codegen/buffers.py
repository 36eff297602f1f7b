"""Loads and stores of a stage: line buffers, whole maps, blocks, boundary values and lines of the output image.

A stage computes one row, block by block. A value is addressed by the number of its operand, the row relative to this
one, and the channel; ``layout`` describes a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from llvmlite import ir

from lkdn_deploy.backends.native.codegen.lane_access import gather, scatter, scatter_halves, scatter_inside
from lkdn_deploy.backends.native.codegen.row_pairs import RowPair
from lkdn_deploy.backends.native.ir import BoundaryKind
from lkdn_deploy.backends.native.layout import BLOCK, LINE, LaneFormat, block_floats, halo_blocks
from lkdn_deploy.backends.native.lower import Conv, DepthwiseConv, StageSignature
from lkdn_deploy.backends.native.winograd import MinimalConv
from lkdn_deploy.jit.builder import FLOAT, INT, POINTER, SHORT, Builder

HEIGHT, WIDTH, VECTORS, BLOCKS, ZEROS, INSIDE = range(6)
"""Entries of the geometry that ``codegen.stage`` describes."""

_HALF_BYTES = 2

Vectors = list[Any]
"""One LLVM value for each vector of a block."""

Block = tuple[dict[tuple[int, int], Any], Any, Vectors]
"""Addresses of a block in each row of each operand, the number of its first vector, and its masks."""


@dataclass(frozen=True, slots=True)
class _Location:
    """The three integers of an operand in the table that ``codegen.stage`` describes."""

    base: Any
    count: Any
    size: Any


class Buffers:
    """The operands of a stage, at row ``y``; the arguments are those of the stage's function."""

    def __init__(self, builder: Builder, signature: StageSignature, operands: Any, geometry: Any, y: Any) -> None:
        self._b, self._signature = builder, signature
        self._table, self._geometry, self._y = operands, geometry, y
        b, numbered = builder, list(enumerate(signature.operands))
        self._row_vectors, self._width = self._fact(VECTORS), self._fact(WIDTH)
        self.blocks = self._fact(BLOCKS)
        self._zeros = b.inttoptr(self._fact(ZEROS), POINTER)
        self._discarded = b.scratch(1)
        stored = {it for it, operand in numbered if operand.halo_columns is not None or operand.boundary}
        self._locations = {it: self._location(it) for it, _ in numbered if it in stored or it == signature.shuffled}
        self._scratch = {it: b.scratch(operand.planes * BLOCK) for it, operand in numbered if it not in stored}
        """Memory for a block of each value that exists within a block only."""
        row_sums = (it for it in numbered if it[1].boundary is BoundaryKind.ROW_SUMS)
        self._row_sums = {it: b.scratch(operand.channels) for it, operand in row_sums}
        interpolated = (it for it, operand in numbered if operand.boundary is BoundaryKind.INTERP_ROWS)
        self._positions = {it: self._interpolation(it) for it in interpolated}
        self.channel_steps = {number: self._channel_step(number) for number, _ in numbered}
        """Number of floats between the channels of each operand."""
        lanes = ir.Constant(b.shorts, list(range(b.lanes)))
        self._lane_columns = b.mul(lanes, b.splat(b.trunc(self._row_vectors, SHORT), b.shorts))
        self._starts = {(source, row): self._row(source, row) for source, row in self._accessed_rows()}
        depthwise = [it for it in signature.kernels if signature.fixed and isinstance(it.producer, DepthwiseConv)]
        in_rows = {op.source for it in depthwise for op in it.epilogue}
        by_block = [it for it in self._starts if not (signature.operands[it[0]].channel_major or it[0] in in_rows)]
        self._newest = [(number, max(row for it, row in by_block if it == number)) for number in dict(by_block)]
        self.is_inside: Any = None
        """Whether the next row is inside the image, where it is the next one's operands."""
        self._completed: set[int] = set()
        self._current: dict[tuple[int, int], Any] = {}
        self._column: Any = None
        self.masks: Vectors = []
        """The lanes of each vector of the current block that are inside the image."""

    @property
    def is_even(self) -> Any:
        """Whether the row's number is even."""
        return self._b.icmp_signed("==", self._b.and_(self._y, INT(1)), INT(0))

    def at_next_row(self) -> "Buffers":
        """Return the operands at the next row; at this one once more, where it is the last."""
        b = self._b
        below = b.add(self._y, INT(1))
        is_inside = b.icmp_signed("<", below, self._fact(HEIGHT))
        found = Buffers(b, self._signature, self._table, self._geometry, b.select(is_inside, below, self._y))
        found.is_inside = is_inside
        return found

    def begin(self) -> None:
        """Emit what precedes the first block."""
        b = self._b

        def clear(sums: Any, channel: Any) -> None:
            b.store_vector(b.constant(0), b.at(sums, b.mul(channel, INT(b.lanes))))

        for number, sums in self._row_sums.items():
            b.repeat(INT(self._signature.operands[number].channels), partial(clear, sums))

    def enter(self, index: Any) -> Block:
        """Make a block the current one, and return it for `select`."""
        b = self._b
        self._current = {
            (number, row): b.at(start, b.mul(index, INT(self.block_step(number))))
            for (number, row), start in self._starts.items()
        }
        self._column = b.mul(index, INT(BLOCK))
        self.masks = [self._mask(part) for part in range(BLOCK)]
        return self._current, self._column, self.masks

    def select(self, block: Block) -> None:
        """Make a block the current one again."""
        self._current, self._column, self.masks = block

    def end(self) -> None:
        """Emit what follows the last block."""
        for kernel in self._signature.kernels:
            self.complete_row(kernel.result)
        for number, sums in self._row_sums.items():
            self._store_row_sums(number, sums)

    def store(self, number: int, channel: Any, values: Vectors) -> None:
        """Store a plane of the current block; columns outside the image as zeros where convolutions may read them.

        Pairs must be zeros there already.

        Args:
            number: number of the operand.
            channel: index of the channel.
            values: a vector for each of the block's.
        """
        b, operand = self._b, self._signature.operands[number]
        if operand.boundary is BoundaryKind.ROW_SUMS:
            self._add_to_row_sums(number, channel, values)
            return
        if operand.boundary is BoundaryKind.NCHW:
            for part, value in enumerate(values):
                addresses = self._lane_addresses(number, channel, self._y, part)
                scatter_inside(b, value, self.masks[part], addresses, self._discarded)
            return
        if operand.boundary is BoundaryKind.EVERY_SECOND:
            self._store_every_second(number, channel, *values)
            return
        target = self.channel(number, 0, channel)
        masked = operand.halo_columns and operand.lane_format is LaneFormat.FLOAT
        for part, value in enumerate(values):
            stored = b.select(self.masks[part], value, b.constant(0)) if masked else value
            b.store_vector(stored, b.at(target, part * b.lanes))

    def store_half(self, number: int, channel: Any, columns: Any) -> None:
        """Store two columns of a channel, which each lane holds, in this row's half of a pair of rows."""
        self.row_pair(number).store(columns, self.channel(number, 0, channel), self._zeros)

    def row_pair(self, number: int) -> RowPair:
        """Return the pair of rows of an operand to which this row belongs."""
        return RowPair(self._b, self._y, self._signature.operands[number].distance)

    def load(self, number: int, channel: Any) -> Vectors:
        """Return a channel of the current block in this row."""
        b, operand = self._b, self._signature.operands[number]
        boundary = operand.boundary
        if boundary is BoundaryKind.PER_CHANNEL:
            return [b.splat_at(self._base(number), channel)] * BLOCK
        if boundary is BoundaryKind.NCHW:
            return [gather(b, self._lane_addresses(number, channel, self._y, part)) for part in range(BLOCK)]
        if boundary is BoundaryKind.INTERP_ROWS:
            return [self._interpolated(number, channel, part) for part in range(BLOCK)]
        pointer = self.channel(number, 0, channel)
        return [b.load_vector(b.at(pointer, part * b.lanes)) for part in range(operand.lane_format.block_vectors)]

    def channel(self, number: int, row: int, channel: Any) -> Any:
        """Return the address of a channel of the current block.

        Args:
            number: number of the operand.
            row: relative to this one.
            channel: index of the channel.
        """
        b = self._b
        block = self._current[number, row] if (number, row) in self._current else self._scratch[number]
        return b.anchored(b.at(block, b.mul(channel, self.channel_steps[number])))

    def vector_loader(self, number: int, channel: Any, first: int) -> Callable[[int], Any]:
        """Return a function that loads a vector by its distance from the block's first.

        Args:
            number: number of the operand.
            channel: address of the channel of the current block.
            first: the least such distance.
        """
        b, origin = self._b, self._vector_offset(number, first)
        start = b.anchored(b.at(channel, origin))
        return lambda place: b.load_vector(b.at(start, self._vector_offset(number, place) - origin))

    def inside(self, *, columns: bool) -> Vectors:
        """Return words for the pairs of the current block that are 0 outside the image, as `layout.inside` has them.

        Args:
            columns: whether pairs are of columns, not of channels.
        """
        b = self._b
        table = b.inttoptr(self._fact(INSIDE), POINTER)
        if columns:
            places = [b.add(self._row_vectors, b.udiv(self._column, INT(BLOCK)))]
        else:
            places = [b.add(self._column, INT(part)) for part in range(BLOCK)]
        return [b.bitcast(b.load_vector(b.at(table, b.mul(it, INT(b.lanes)))), b.shorts) for it in places]

    def records(self) -> Any:
        """Return the address of the stage's records, which ``codegen.stage`` describes."""
        return self._b.inttoptr(self._location(len(self._signature.operands)).base, POINTER)

    def prefetcher(self, iteration: Any, iterations: int) -> Callable[[Any], None]:
        """Return a function that prefetches a part of what the next block reads and writes.

        All at once, it would be waited for. The function takes how many iterations the current one is after
        ``iteration``; ``iterations`` is their number in all.
        """
        b = self._b
        streams = []
        for number, row in self._newest:
            block = self.block_step(number)
            part = -(-block // iterations)
            streams.append((b.at(self._current[number, row], b.add(INT(block), b.mul(iteration, INT(part)))), part))

        def prefetch(index: Any) -> None:
            for pointer, part in streams:
                start = b.at(pointer, b.mul(index, INT(part)))
                for line in range(0, part, LINE):
                    b.prefetch(b.at(start, line))

        return prefetch

    def store_output(self, number: int) -> None:
        """Store the current block, with all its lanes, in lines of the output image; see ``codegen.output``."""
        b, lines = self._b, self._locations[number]
        times = len(self._signature.pixel_order[0])
        if self._signature.fixed:
            self._store_integers(number)
            return
        for colour, rows in enumerate(self._signature.pixel_order):
            for row, channels in enumerate(rows):
                line = b.add(b.mul(lines.count, INT(colour)), b.mul(lines.size, INT(row)))
                target = b.at(self._base(number), line)
                for part in range(BLOCK):
                    vectors = [
                        b.load_vector(b.at(self.channel(number, 0, INT(channel)), part * b.lanes))
                        for channel in channels
                    ]
                    column = b.mul(b.add(self._column, INT(part)), INT(times))
                    scatter(b, vectors, b.at(target, column), self._row_vectors)

    def _store_integers(self, number: int) -> None:
        """Store the current block as `store_output` does, in lines of 16-bit integers."""
        b, lines = self._b, self._locations[number]
        times = len(self._signature.pixel_order[0])
        for colour, rows in enumerate(self._signature.pixel_order):
            for row, channels in enumerate(rows):
                line = b.add(b.mul(lines.count, INT(colour)), b.mul(lines.size, INT(row)))
                for part in range(BLOCK):
                    column = b.mul(b.add(self._column, INT(part)), INT(times))
                    target = b.at_byte(self._base(number), b.mul(b.add(line, column), INT(_HALF_BYTES)))
                    planes = {
                        it: b.load_vector(b.at(self.channel(number, 0, INT(it)), part * b.lanes))
                        for it in dict.fromkeys(channel // 2 for channel in channels)
                    }
                    if list(channels) == [2 * it + half for it in planes for half in range(2)]:
                        scatter(b, [*planes.values()], target, self._row_vectors)
                    else:
                        scatter_halves(b, [(planes[it // 2], it % 2) for it in channels], target, self._row_vectors)

    # Rows.

    def _fact(self, place: int) -> Any:
        return self._b.load_integers(self._geometry, 1, place)[0]

    def _location(self, number: int) -> _Location:
        b = self._b
        entry = b.gep(self._table, [INT(3 * number)], source_etype=INT)
        return _Location(*b.load_integers(entry, 3))

    def _accessed_rows(self) -> set[tuple[int, int]]:
        """Return which rows, relative to this one, of stored operands are read or written."""
        found = {(kernel.result, 0) for kernel in self._signature.kernels}
        for kernel in self._signature.kernels:
            found |= {(op.source, 0) for op in kernel.epilogue if op.source is not None}
            producer = kernel.producer
            if isinstance(producer, Conv):
                found |= {(loop.source, loop.row) for group in producer.groups for loop in group.loops}
            elif isinstance(producer, MinimalConv):
                found |= {(source, row) for source, _ in producer.sources for row in producer.rows}
            elif isinstance(producer, DepthwiseConv):
                found |= {(producer.source, row) for row in producer.rows}
            else:
                found.add((producer.source, 0))
        return {(number, row) for number, row in found if self._signature.operands[number].halo_columns is not None}

    def _row(self, number: int, row: int) -> Any:
        """Return the address of the first block of a row, after its halo."""
        b, location = self._b, self._locations[number]
        y = b.add(self._y, INT(row))
        place = y
        if self._signature.operands[number].distance:
            pair = self.row_pair(number)  # rows, of which there are half as many pairs, are relative to its first
            y, place = b.add(pair.first(), INT(row)), b.add(pair.number(), INT(row // 2))
        address = b.add(location.base, b.mul(b.srem(place, location.count), location.size))
        pointer = b.inttoptr(address, POINTER)
        if row:
            # An unsigned comparison is false for negative rows too.
            pointer = b.select(b.icmp_unsigned("<", y, self._fact(HEIGHT)), pointer, self._zeros)
        return b.at(pointer, halo_blocks(self._signature.operands[number].halo_columns or 0) * self.block_step(number))

    def block_step(self, number: int) -> int:
        """Return the number of floats between blocks."""
        operand, lanes = self._signature.operands[number], self._b.lanes
        return (
            operand.lane_format.block_vectors * lanes if operand.channel_major else block_floats(operand.planes, lanes)
        )

    def _channel_step(self, number: int) -> Any:
        b, operand = self._b, self._signature.operands[number]
        if not operand.channel_major:
            return INT(BLOCK * b.lanes)
        vectors = operand.lane_format.block_vectors
        row = self._row_vectors if vectors == BLOCK else self.blocks
        halo = 2 * halo_blocks(operand.halo_columns or 0) * vectors
        return b.mul(b.or_(b.add(row, INT(halo)), INT(1)), INT(b.lanes))

    def _vector_offset(self, number: int, column: int) -> int:
        """Return the number of floats from a block's first vector of a channel to the one ``column`` vectors later."""
        blocks, part = divmod(column, self._signature.operands[number].lane_format.block_vectors)
        return blocks * self.block_step(number) + part * self._b.lanes

    def _mask(self, part: int) -> Any:
        """Return which lanes of a vector of the current block are inside the image."""
        b = self._b
        column = b.trunc(b.add(self._column, INT(part)), SHORT)
        columns = b.add(self._lane_columns, b.splat(column, b.shorts))
        return b.icmp_signed("<", columns, b.splat(b.trunc(self._width, SHORT), b.shorts))

    def row_end(self, number: int) -> Any:
        """Return the number of floats from the first to behind the last block of a row."""
        return self._b.mul(self.blocks, INT(self.block_step(number)))

    def complete_row(self, number: int) -> None:
        """Complete all channels of a row that this stage has computed, unless it is complete."""
        operand = self._signature.operands[number]
        if operand.halo_columns and number not in self._completed:
            self._b.repeat(INT(operand.planes), partial(self.complete, number, self.row_end(number)))

    def complete(self, number: int, end: Any, channel: Any) -> None:
        """Store the halo of a channel of a row, after its last block.

        Beyond the ends of a stretch are the first and last columns of its neighbours.

        Args:
            number: number of the operand.
            end: the operand's `row_end`.
            channel: index of the channel.
        """
        self._completed.add(number)
        b = self._b
        operand = self._signature.operands[number]
        start = self._starts[number, 0]
        zero = b.constant(0)
        up = ir.Constant(b.shorts, [b.lanes, *range(b.lanes - 1)])
        down = ir.Constant(b.shorts, [*range(1, b.lanes), b.lanes])

        def address(column: int, behind: Any) -> Any:
            offset = b.add(INT(self._vector_offset(number, column)), behind)
            return b.at(start, b.add(offset, b.mul(channel, self.channel_steps[number])))

        halo = operand.halo_columns or 0
        # From the inside out: where the row is shorter than the halo, what is copied was just made.
        for column in range(1, -(-halo * operand.lane_format.block_vectors // BLOCK) + 1):
            last = b.load_vector(address(-column, end))
            b.store_vector(b.shuffle_vector(last, zero, up), address(-column, INT(0)))
            first = b.load_vector(address(column - 1, INT(0)))
            b.store_vector(b.shuffle_vector(first, zero, down), address(column - 1, end))

    # Boundary values and the output image.

    def _base(self, number: int) -> Any:
        return self._b.inttoptr(self._locations[number].base, POINTER)

    def _lane_addresses(self, number: int, channel: Any, y: Any, part: int) -> list[Any]:
        """Return the address of each lane of a vector of the current block in a row of (C, H, W)."""
        b = self._b
        row = b.add(b.mul(channel, self._fact(HEIGHT)), y)
        first = b.add(self._column, INT(part))
        start = b.at(self._base(number), b.add(b.mul(row, self._width), first))
        return [b.at(start, b.mul(self._row_vectors, INT(lane))) for lane in range(b.lanes)]

    def has_row(self, number: int, first: int) -> Any:
        """Return whether an operand that has every second row, from the ``first`` on, has this one."""
        b = self._b
        is_next = b.icmp_signed("==", b.and_(self._y, INT(1)), INT(first))
        return b.and_(is_next, b.icmp_signed("<", b.udiv(self._y, INT(2)), self._locations[number].count))

    def _store_every_second(self, number: int, channel: Any, value: Any) -> None:
        """Store the one vector of the current block that is inside an operand of every second row and column."""
        b, place = self._b, self._locations[number]
        column = b.udiv(self._column, INT(BLOCK))
        row = b.add(b.mul(channel, place.count), b.udiv(self._y, INT(2)))
        start = b.at(self._base(number), b.add(b.mul(row, place.size), column))
        distances = [b.mul(self.blocks, INT(lane)) for lane in range(b.lanes)]
        lanes = b.mul(ir.Constant(b.shorts, list(range(b.lanes))), b.splat(b.trunc(self.blocks, SHORT), b.shorts))
        columns = b.add(lanes, b.splat(b.trunc(column, SHORT), b.shorts))
        inside = b.icmp_signed("<", columns, b.splat(b.trunc(place.size, SHORT), b.shorts))
        scatter_inside(b, value, inside, [b.at(start, it) for it in distances], self._discarded)

    def _interpolation(self, number: int) -> tuple[Any, Any, Any]:
        """Return the rows before and behind this one, and the weight of the latter in all lanes."""
        b = self._b
        table = b.inttoptr(self._locations[number].size, POINTER)
        entry = b.gep(table, [b.mul(self._y, INT(3))], source_etype=INT)
        before, behind, weight = b.load_integers(entry, 3)
        return before, behind, b.splat(b.bitcast(b.trunc(weight, SHORT), FLOAT), b.vector)

    def _interpolated(self, number: int, channel: Any, part: int) -> Any:
        b = self._b
        before, behind, weight = self._positions[number]
        first, second = (gather(b, self._lane_addresses(number, channel, row, part)) for row in (before, behind))
        return b.fma(weight, b.fsub(second, first), first)

    def _add_to_row_sums(self, number: int, channel: Any, values: Vectors) -> None:
        """Add the lanes inside the image to the sums of this row."""
        b = self._b
        place = b.at(self._row_sums[number], b.mul(channel, INT(b.lanes)))
        total = b.load_vector(place)
        for part, value in enumerate(values):
            total = b.fadd(total, b.select(self.masks[part], value, b.constant(0)))
        b.store_vector(total, place)

    def _store_row_sums(self, number: int, sums: Any) -> None:
        """Store the complete sums only: the threads of two bands may both compute a row, with equal results."""
        b = self._b
        channels = INT(self._signature.operands[number].channels)
        row = b.at(self._base(number), b.mul(self._y, channels))

        def store(channel: Any) -> None:
            total = b.load_vector(b.at(sums, b.mul(channel, INT(b.lanes))))
            b.store(b.sum_of_lanes(total), b.at(row, channel), align=4)

        b.repeat(channels, store)

"""Where a stage's values are, and how they get there: rows that are kept, blocks, and what is outside the engine.

A stage computes one row, block by block. A value is found by its number in the stage's ``Shape``, the row relative to
this one, and the channel; see ``layout`` for what a row is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from lkdn_deploy.backends.native.ir import Kind
from lkdn_deploy.backends.native.layout import BLOCK, LINE, block_floats, margin_blocks
from lkdn_deploy.backends.native.lower import Dense, Shape, Window
from lkdn_deploy.jit.builder import FLOAT, INT, POINTER, SHORT, Builder

HEIGHT, WIDTH, STEPS, BLOCKS, ZEROS = range(5)
"""Of the geometry."""

Vectors = list[Any]
"""One for each of a block's vectors."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where the rows of a value are."""

    base: Any
    count: Any
    size: Any


class Rows:
    """Of the values of a stage, at row ``y``; ``rows`` and ``geometry`` are what ``kernels`` describes."""

    def __init__(self, builder: Builder, shape: Shape, rows: Any, geometry: Any, y: Any) -> None:
        self._b, self._shape = builder, shape
        self._rows, self._geometry, self._y = rows, geometry, y
        b, places = builder, list(enumerate(shape.places))
        self._steps, self._width = self._fact(STEPS), self._fact(WIDTH)
        self.blocks = self._fact(BLOCKS)
        self._zeros = b.inttoptr(self._fact(ZEROS), POINTER)
        self._nowhere = b.scratch(1)
        self._kept = {
            number: self._kept_rows(number)
            for number, place in places
            if place.margin is not None or place.outside or number == shape.shuffled
        }
        self._inside = {
            number: b.scratch(place.channels * BLOCK)
            for number, place in places
            if place.margin is None and not place.outside
        }
        self._totals = {number: b.scratch(place.channels) for number, place in places if place.outside is Kind.SUMS}
        self._lines = {number: self._between(number) for number, place in places if place.outside is Kind.LINES}
        self._channel_steps = {number: self._channel_step(number) for number, _ in places}
        lanes = ir.Constant(b.shorts, list(range(b.lanes)))
        self._lane_columns = b.mul(lanes, b.splat(b.trunc(self._steps, SHORT), b.shorts))
        self._starts = {(source, row): self._row(source, row) for source, row in self._read_rows()}
        by_blocks = [(number, row) for number, row in self._starts if not shape.places[number].by_channel]
        self._newest = [(number, max(row for it, row in by_blocks if it == number)) for number in dict(by_blocks)]
        self._here: dict[tuple[int, int], Any] = {}
        self._column: Any = None
        self._masks: Vectors = []

    def begin(self) -> None:
        """Before the first block."""
        for number, totals in self._totals.items():
            self._clear(totals, self._shape.places[number].channels)

    def enter(self, index: Any) -> None:
        """Go to a block: where each value's is, and which of its lanes are inside the picture."""
        b = self._b
        self._here = {
            (number, row): b.at(start, b.mul(index, INT(self._block_step(number))))
            for (number, row), start in self._starts.items()
        }
        self._column = b.mul(index, INT(BLOCK))
        self._masks = [self._mask(part) for part in range(BLOCK)]

    def end(self) -> None:
        """Behind the last block."""
        for code in self._shape.codes:
            if self._shape.places[code.result].margin:
                self._fill_margins(code.result)
        for number, totals in self._totals.items():
            self._give_sums(number, totals)

    def put(self, number: int, channel: Any, values: Vectors) -> None:
        """Into a value's block; outside the picture zeros, where windows may take them."""
        b, place = self._b, self._shape.places[number]
        if place.outside is Kind.SUMS:
            self._add_up(number, channel, values)
            return
        if place.outside is Kind.PLANES:
            for part, value in enumerate(values):
                self._scatter_inside(value, self._masks[part], self._plane(number, channel, self._y, part))
            return
        target = self.channel(number, 0, channel)
        for part, value in enumerate(values):
            kept = b.select(self._masks[part], value, b.constant(0)) if place.margin else value
            b.store_vector(kept, b.at(target, part * b.lanes))

    def get(self, number: int, channel: Any) -> Vectors:
        """Of a value's block in this row."""
        b, outside = self._b, self._shape.places[number].outside
        if outside is Kind.NUMBERS:
            return [b.splat_at(self._base(number), channel)] * BLOCK
        if outside is Kind.PLANES:
            return [self._gather(self._plane(number, channel, self._y, part)) for part in range(BLOCK)]
        if outside is Kind.LINES:
            return [self._on_the_way(number, channel, part) for part in range(BLOCK)]
        pointer = self.channel(number, 0, channel)
        return [b.load_vector(b.at(pointer, part * b.lanes)) for part in range(BLOCK)]

    def channel(self, number: int, row: int, channel: Any) -> Any:
        """Where the current block of a channel is."""
        b = self._b
        block = self._here[number, row] if (number, row) in self._here else self._inside[number]
        return b.at(block, b.mul(channel, self._channel_steps[number]))

    def channel_step(self, number: int) -> Any:
        """Floats from one channel to the next."""
        return self._channel_steps[number]

    def around(self, number: int, channel: Any, columns: Sequence[int]) -> dict[int, Any]:
        """The vectors of a channel that a window of these columns takes, by their distance from the block's first.

        ``channel`` is where its current block is.
        """
        b = self._b
        found = {}
        for column in sorted({part + column for part in range(BLOCK) for column in columns}):
            found[column] = b.load_vector(b.at(channel, self._aside(number, column)))
        return found

    def fetching(self, turn: Any, turns: int) -> Callable[[Any], None]:
        """Brings what the next block reads and writes into the cache, a part of it at each of so many turns.

        All at once, it would be waited for. What is given is to be called with how many turns this one is behind
        ``turn``.
        """
        b = self._b
        streams = []
        for number, row in self._newest:
            block = self._block_step(number)
            part = -(-block // turns)
            streams.append((b.at(self._here[number, row], b.add(INT(block), b.mul(turn, INT(part)))), part))

        def fetch(index: Any) -> None:
            for pointer, part in streams:
                here = b.at(pointer, b.mul(index, INT(part)))
                for line in range(0, part, LINE):
                    b.prefetch(b.at(here, line))

        return fetch

    def enlarge(self, number: int) -> None:
        """The block into lines of the enlarged picture, all lanes of them; see ``results``."""
        b, lines = self._b, self._kept[number]
        times = len(self._shape.order[0])
        for colour, rows in enumerate(self._shape.order):
            for row, channels in enumerate(rows):
                line = b.add(b.mul(lines.count, INT(colour)), b.mul(lines.size, INT(row)))
                target = b.at(self._base(number), line)
                for part in range(BLOCK):
                    vectors = [
                        b.load_vector(b.at(self.channel(number, 0, INT(channel)), part * b.lanes))
                        for channel in channels
                    ]
                    self._scatter(vectors, b.at(target, b.mul(b.add(self._column, INT(part)), INT(times))))

    # Rows.

    def _fact(self, place: int) -> Any:
        return self._b.load(self._b.gep(self._geometry, [INT(place)], source_etype=INT), typ=INT)

    def _kept_rows(self, number: int) -> _Kept:
        b = self._b
        entry = b.gep(self._rows, [INT(3 * number)], source_etype=INT)
        base, count, size = (b.load(b.gep(entry, [INT(it)], source_etype=INT), typ=INT) for it in range(3))
        return _Kept(base, count, size)

    def _read_rows(self) -> set[tuple[int, int]]:
        """Values that are kept, and which of their rows, relative to this one, are read or written."""
        found = {(code.result, 0) for code in self._shape.codes}
        for code in self._shape.codes:
            found |= {(link.source, 0) for link in code.chain if link.source is not None}
            if isinstance(code.head, Dense):
                found |= {(loop.source, loop.row) for group in code.head.groups for loop in group.loops}
            elif isinstance(code.head, Window):
                found |= {(code.head.source, row) for row in code.head.rows}
            else:
                found.add((code.head.source, 0))
        return {(number, row) for number, row in found if self._shape.places[number].margin is not None}

    def _row(self, number: int, row: int) -> Any:
        """Where the first block of a row is, behind its margin."""
        b, kept = self._b, self._kept[number]
        y = b.add(self._y, INT(row))
        address = b.add(kept.base, b.mul(b.srem(y, kept.count), kept.size))
        pointer = b.inttoptr(address, POINTER)
        if row:
            # An unsigned comparison finds those above the first too.
            pointer = b.select(b.icmp_unsigned("<", y, self._fact(HEIGHT)), pointer, self._zeros)
        return b.at(pointer, margin_blocks(self._shape.places[number].margin or 0) * self._block_step(number))

    def _block_step(self, number: int) -> int:
        """Floats from one block to the next."""
        place = self._shape.places[number]
        return BLOCK * self._b.lanes if place.by_channel else block_floats(place.channels, self._b.lanes)

    def _channel_step(self, number: int) -> Any:
        b, place = self._b, self._shape.places[number]
        if not place.by_channel:
            return INT(BLOCK * b.lanes)
        beyond = 2 * margin_blocks(place.margin or 0) * BLOCK
        return b.mul(b.or_(b.add(self._steps, INT(beyond)), INT(1)), INT(b.lanes))

    def _aside(self, number: int, column: int) -> int:
        """Floats from a block's first vector of a channel to the one so many further on."""
        blocks, part = divmod(column, BLOCK)
        return blocks * self._block_step(number) + part * self._b.lanes

    def _mask(self, part: int) -> Any:
        b = self._b
        column = b.trunc(b.add(self._column, INT(part)), SHORT)
        places = b.add(self._lane_columns, b.splat(column, b.shorts))
        return b.icmp_signed("<", places, b.splat(b.trunc(self._width, SHORT), b.shorts))

    def _fill_margins(self, number: int) -> None:
        """Columns beyond the ends of a stretch are the first and last of its neighbours."""
        b = self._b
        place = self._shape.places[number]
        start = self._starts[number, 0]
        zero = b.constant(0)
        up = ir.Constant(b.shorts, [b.lanes, *range(b.lanes - 1)])
        down = ir.Constant(b.shorts, [*range(1, b.lanes), b.lanes])
        end = b.mul(self.blocks, INT(self._block_step(number)))

        def address(column: int, behind: Any, channel: Any) -> Any:
            beginning = b.add(INT(self._aside(number, column)), behind)
            return b.at(start, b.add(beginning, b.mul(channel, self._channel_steps[number])))

        def body(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            # From the inside out: where the row is shorter than the margin, what is copied was just made.
            for column in range(1, (place.margin or 0) + 1):
                last = b.load_vector(address(-column, end, channel))
                b.store_vector(b.shuffle_vector(last, zero, up), address(-column, INT(0), channel))
                first = b.load_vector(address(column - 1, INT(0), channel))
                b.store_vector(b.shuffle_vector(first, zero, down), address(column - 1, end, channel))
            return []

        b.loop(INT(place.channels), [], body)

    # To and from the outside.

    def _base(self, number: int) -> Any:
        return self._b.inttoptr(self._kept[number].base, POINTER)

    def _plane(self, number: int, channel: Any, y: Any, part: int) -> list[Any]:
        """Where the lanes of a block's vector are in a row of a channel's plane, ``steps`` columns apart."""
        b = self._b
        row = b.add(b.mul(channel, self._fact(HEIGHT)), y)
        first = b.add(self._column, INT(part))
        start = b.at(self._base(number), b.add(b.mul(row, self._width), first))
        return [b.at(start, b.mul(self._steps, INT(lane))) for lane in range(b.lanes)]

    def _between(self, number: int) -> tuple[Any, Any, Any]:
        """The lines before and behind this row, and how far on it is; see ``outside.between``."""
        b = self._b
        table = b.inttoptr(self._kept[number].size, POINTER)
        entry = b.gep(table, [b.mul(self._y, INT(3))], source_etype=INT)
        before, behind, on = (b.load(b.gep(entry, [INT(it)], source_etype=INT), typ=INT) for it in range(3))
        return before, behind, b.splat(b.bitcast(b.trunc(on, SHORT), FLOAT), b.vector)

    def _on_the_way(self, number: int, channel: Any, part: int) -> Any:
        b = self._b
        before, behind, on = self._lines[number]
        first, second = (self._gather(self._plane(number, channel, line, part)) for line in (before, behind))
        return b.fma(on, b.fsub(second, first), first)

    def _gather(self, pixels: Sequence[Any]) -> Any:
        """What lies beyond the picture is of the next row, or of what follows the last."""
        b = self._b
        vector = ir.Constant(b.vector, ir.Undefined)
        for lane, pixel in enumerate(pixels):
            vector = b.insert_element(vector, b.load(pixel, typ=FLOAT, align=4), SHORT(lane))
        return vector

    def _scatter_inside(self, vector: Any, mask: Any, pixels: Sequence[Any]) -> None:
        """Only what is inside the picture: the rest goes where nobody looks."""
        b = self._b
        for lane, pixel in enumerate(pixels):
            place = b.select(b.extract_element(mask, SHORT(lane)), pixel, self._nowhere)
            b.store(b.extract_element(vector, SHORT(lane)), place, align=4)

    def _scatter(self, vectors: Vectors, target: Any) -> None:
        """Of each lane the pixels side by side, ``steps`` columns apart."""
        b = self._b
        times = len(vectors)
        distance = b.mul(self._steps, INT(times))
        for lane in range(b.lanes):
            pixel = b.at(target, b.mul(distance, INT(lane)))
            if times == 1:
                b.store(b.extract_element(vectors[0], SHORT(lane)), pixel, align=4)
                continue
            found = ir.Constant(ir.VectorType(FLOAT, times), ir.Undefined)
            for place, joined in enumerate(vectors):
                value = b.extract_element(joined, SHORT(lane))
                found = b.insert_element(found, value, SHORT(place))
            b.store(found, pixel, align=4)

    def _clear(self, totals: Any, channels: int) -> None:
        b = self._b

        def clear(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            b.store_vector(b.constant(0), b.at(totals, b.mul(channel, INT(b.lanes))))
            return []

        b.loop(INT(channels), [], clear)

    def _add_up(self, number: int, channel: Any, values: Vectors) -> None:
        """Add what is inside the picture to the row's sums."""
        b = self._b
        place = b.at(self._totals[number], b.mul(channel, INT(b.lanes)))
        total = b.load_vector(place)
        for part, value in enumerate(values):
            total = b.fadd(total, b.select(self._masks[part], value, b.constant(0)))
        b.store_vector(total, place)

    def _give_sums(self, number: int, totals: Any) -> None:
        """Once they are whole: the threads of two bands may both compute a row, and give the same."""
        b = self._b
        channels = INT(self._shape.places[number].channels)
        row = b.at(self._base(number), b.mul(self._y, channels))

        def give(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            total = b.load_vector(b.at(totals, b.mul(channel, INT(b.lanes))))
            b.store(b.sum_of_lanes(total), b.at(row, channel), align=4)
            return []

        b.loop(channels, [], give)

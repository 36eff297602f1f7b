"""Convolutions by minimal filtering, which ``winograd`` describes, for two or three tiles at a time.

Each weight is loaded once for all tiles. Position by position, the sums of products of a group of output channels are
in registers.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from lkdn_deploy.backends.native.codegen.buffers import Block, Buffers, Vectors
from lkdn_deploy.backends.native.layout import BLOCK
from lkdn_deploy.backends.native.winograd import FAR, NEAR, POSITIONS, TILE, MinimalConv
from lkdn_deploy.jit.builder import INT, Builder

_BLOCKS = TILE // BLOCK
"""Blocks of a tile."""

Store = Callable[[Any, Vectors], None]
"""Takes the number of a channel, and its vectors in the current block."""
Finish = Callable[[Buffers, Callable[[Store], None]], None]
"""Finishes blocks of a tile; takes the operands at their row, and a function that computes their vectors and gives them
to a ``Store``."""

_FEWEST = 2
"""Tiles that are computed together at least."""


def emit_factors(b: Builder, buffers: Buffers, source: int, channels: int, result: int) -> None:
    """Emit the factors of a row.

    Args:
        b: builder of the stage's function.
        buffers: its operands.
        source: operand with halo.
        channels: its number of channels.
        result: operand for the factors.
    """

    def tile(index: Any) -> None:
        buffers.enter(b.mul(index, INT(_BLOCKS)))
        start, target = buffers.channel(source, 0, INT(0)), buffers.channel(result, 0, INT(0))

        def channel(number: Any) -> None:
            address = b.at(start, b.mul(number, buffers.channel_steps[source]))
            place = b.at(target, b.mul(number, INT(b.lanes)))
            load = buffers.vector_loader(source, address, -1)
            loaded = {it: load(it) for it in range(-1, TILE + 1)}
            for position, factor in enumerate(_factors(b, [loaded[it] for it in range(-1, TILE + 1)])):
                b.store_vector(factor, b.at(place, position * channels * b.lanes))

        b.repeat(INT(channels), channel)

    b.repeat(b.udiv(buffers.blocks, INT(_BLOCKS)), tile)


def _factors(b: Builder, d: Vectors) -> Vectors:
    """Return the factors of a tile's columns ``d``, B d in terms of ``winograd``."""
    constant, even_factor = b.constant, b.constant(-(FAR**2 + NEAR**2))
    found = [b.fma(d[2], even_factor, b.fadd(d[0], d[4]))]
    for value, rest in ((FAR, NEAR), (NEAR, FAR)):
        even = b.fma(d[2], constant(-(rest**2)), d[4])
        odd = b.fma(d[1], constant(-(rest**2)), d[3])
        found += [b.fma(odd, constant(value), even), b.fma(odd, constant(-value), even)]
    return [*found, b.fma(d[3], even_factor, b.fadd(d[1], d[5]))]


_Steps = Mapping[int, Sequence[Any]]
"""Distances of the tiles that are computed together from the first, by operand."""


class TileEmitter:
    """Emits a convolution by minimal filtering.

    Args:
        builder: builder of the stage's function.
        rows: its operands at this row, and at the next where two are computed at once.
        weights: address of its weights.
        conv: the convolution.
        outputs: number of its output channels.
        apart: whether the blocks of a tile are finished one after the other, not channel by channel.
    """

    def __init__(
        self, builder: Builder, rows: Sequence[Buffers], weights: Any, conv: MinimalConv, outputs: int, *, apart: bool
    ) -> None:
        self._b, self._rows, self._weights, self._conv = builder, rows, weights, conv
        self._buffers = rows[0]
        self._channels = sum(channels for _, channels in conv.sources)
        self._outputs, self._apart = outputs, apart
        self._sums = builder.scratch(conv.tiles * len(rows) * POSITIONS * outputs)
        """(tiles, rows, positions, outputs)"""
        self._combined = builder.scratch(conv.tiles * self._channels) if conv.paired else None
        """(tiles, channels), of two rows that a pair is computed of."""
        self._first: Any = None
        """The first of the tiles that are computed together."""

    def emit(self, finish: Finish) -> None:
        """Emit the loops over a row; ``finish`` finishes the blocks of each tile, or each of them, the current one."""
        b, most = self._b, self._conv.tiles
        tiles = b.udiv(self._buffers.blocks, INT(_BLOCKS))
        done, rest = INT(0), tiles
        if most > _FEWEST:  # as many pairs as leave whole triples
            missing = b.urem(b.sub(b.mul(tiles, INT(most)), tiles), INT(most))
            pairs = b.udiv(b.add(tiles, INT(1)), INT(_FEWEST))
            pairs = b.select(b.icmp_signed("<", missing, pairs), missing, pairs)
            rounds = b.sdiv(b.sub(tiles, b.mul(pairs, INT(_FEWEST))), INT(most))
            b.repeat(rounds, partial(self._together, most, done, INT(most), finish))
            done = b.mul(rounds, INT(most))
            rest = b.sub(tiles, done)
        rounds = b.udiv(b.add(rest, INT(_FEWEST - 1)), INT(_FEWEST))
        b.repeat(rounds, partial(self._together, _FEWEST, done, rest, finish))

    def _together(self, count: int, done: Any, left: Any, finish: Finish, index: Any) -> None:
        """Compute ``count`` tiles after ``done`` others; the last of those ``left``, if alone, twice."""
        b = self._b
        before = b.mul(index, INT(count))
        self._first = b.add(done, before)
        remaining = b.sub(left, before)
        there = b.select(b.icmp_signed("<", remaining, INT(count)), remaining, INT(count))
        if count == self._conv.tiles > _FEWEST:
            there = INT(count)
        self._buffers.enter(b.mul(self._first, INT(_BLOCKS)))
        self._sum_products(count, there)
        b.repeat(there, partial(self._finish, finish))

    def _sum_products(self, count: int, there: Any) -> None:
        """Sum up the products of all positions of ``count`` tiles, of which ``there`` exist."""
        b = self._b
        steps = {}
        for source, _ in self._conv.sources:
            step = _BLOCKS * self._buffers.block_step(source)
            last = b.mul(b.sub(there, INT(1)), INT(step))
            steps[source] = [INT(it * step) for it in range(count - 1)] + [last]

        b.repeat(INT(POSITIONS), partial(self._pair if self._conv.paired else self._single, steps))

    def _single(self, steps: _Steps, position: Any) -> None:
        """Sum up the products of a position for one row."""
        b, conv = self._b, self._conv
        sources = []
        for source, channels in conv.sources:
            tiles = [self._tiles(source, row, b.mul(position, INT(channels * b.lanes)), steps) for row in conv.rows]
            sources.append((tiles, channels))

        def group(first: Any, size: int) -> None:
            taps = self._channels * len(conv.rows)
            before = b.add(b.mul(position, INT(taps * self._outputs)), b.mul(first, INT(taps)))
            zeros = [b.constant(0)] * (size * len(steps[conv.sources[0][0]]))
            self._keep(self._products(sources, before, size, zeros), size, position, first, 0)

        self._groups(group)

    def _pair(self, steps: _Steps, position: Any) -> None:
        """Sum up the products of a position for two rows, which are the sum and the difference of two sums, and more.

        With rows d of the factors and rows g of the weights, that is F(2, 3):

            (d1 + d2) g0 + (d2 - d1) g1 + (d0 - d2) g2,    (d1 + d2) g0 - (d2 - d1) g1 + (d3 - d1) g3
        """
        b, conv = self._b, self._conv
        count = len(steps[conv.sources[0][0]])
        tiles = [b.at(self._combined, tile * self._channels * b.lanes) for tile in range(count)]
        for number, (one, other, form) in enumerate(((1, 2, b.fadd), (2, 1, b.fsub), (0, 2, b.fsub), (3, 1, b.fsub))):
            self._combine(steps, position, one, other, form)

            def group(first: Any, size: int, number: int) -> None:
                row = b.add(b.mul(position, INT(4)), INT(number))
                before = b.mul(b.add(b.mul(row, INT(self._outputs)), first), INT(self._channels))
                target = number - 2
                begun = self._kept(size, count, position, first, target) if number > 1 else None
                zeros = [b.constant(0)] * (size * count)
                sums = self._products([([tiles], self._channels)], before, size, begun or zeros)
                if number == 1:
                    firsts = self._kept(size, count, position, first, 0)
                    self._keep([b.fsub(*it) for it in zip(firsts, sums, strict=True)], size, position, first, 1)
                    sums = [b.fadd(*it) for it in zip(firsts, sums, strict=True)]
                self._keep(sums, size, position, first, max(target, 0))

            self._groups(partial(group, number=number))

    def _combine(self, steps: _Steps, position: Any, one: int, other: int, form: Callable[[Any, Any], Any]) -> None:
        """Store sums or differences of two rows of the factors of a position."""
        b, rows, done = self._b, self._conv.rows, 0
        for source, channels in self._conv.sources:
            start = b.mul(position, INT(channels * b.lanes))
            firsts, seconds = (self._tiles(source, rows[it], start, steps) for it in (one, other))

            def channel(index: Any, done: int, firsts: Vectors, seconds: Vectors) -> None:
                place = b.mul(index, INT(b.lanes))
                for tile, pair in enumerate(zip(firsts, seconds, strict=True)):
                    value = form(*(b.load_vector(b.at(it, place)) for it in pair))
                    start = b.at(self._combined, (tile * self._channels + done) * b.lanes)
                    b.store_vector(value, b.at(start, place))

            b.repeat(INT(channels), partial(channel, done=done, firsts=firsts, seconds=seconds))
            done += channels

    def _groups(self, emit: Callable[[Any, int], None]) -> None:
        """Emit loops over the groups of output channels; ``emit`` takes the first of one, and their number."""
        b = self._b
        for size, alike in groupby(self._conv.groups, itemgetter(1)):
            starts = [start for start, _ in alike]

            def group(index: Any, size: int, start: int) -> None:
                emit(b.add(b.mul(index, INT(size)), INT(start)), size)

            b.repeat(INT(len(starts)), partial(group, size=size, start=starts[0]))

    def _tiles(self, source: int, row: int, start: Any, steps: _Steps) -> Vectors:
        """Return the addresses of a position of each tile in a row."""
        b = self._b
        return [b.at(b.at(self._buffers.channel(source, row, INT(0)), start), step) for step in steps[source]]

    def _products(
        self, sources: Sequence[tuple[Sequence[Vectors], int]], before: Any, size: int, sums: Sequence[Any]
    ) -> Sequence[Any]:
        """Add products to the sums of ``size`` output channels.

        Args:
            sources: addresses of each tile for each row of taps, and the number of channels there.
            before: number of the first weight.
            size: number of output channels.
            sums: the sums of each tile, by output channel.
        """
        b = self._b
        weights = b.at(self._weights, b.add(before, INT(self._conv.weights)))
        count = len(sums) // size

        def taps(channel: Any, carried: Sequence[Any], rows: Sequence[Vectors], weights: Any) -> Sequence[Any]:
            found = list(carried)
            place = b.mul(channel, INT(b.lanes))
            row_weights = b.at(weights, b.mul(channel, INT(len(rows) * size)))
            for number, tiles in enumerate(rows):
                loaded = [b.load_vector(b.at(tile, place)) for tile in tiles]
                for output in range(size):
                    weight = b.splat_at(row_weights, INT(number * size + output))
                    for tile, value in enumerate(loaded, count * output):
                        found[tile] = b.fma(weight, value, found[tile])
            return found

        for rows, channels in sources:
            sums = b.loop(INT(channels), sums, partial(taps, rows=rows, weights=weights))
            weights = b.at(weights, channels * len(rows) * size)
        return sums

    def _sum_places(self, size: int, count: int, position: Any, first: Any, row: int) -> Vectors:
        """Return the addresses of the sums of some output channels in a row."""
        b = self._b
        start = b.at(self._sums, b.mul(b.add(b.mul(position, INT(self._outputs)), first), INT(b.lanes)))
        apart = POSITIONS * self._outputs
        places = ((output, tile) for output in range(size) for tile in range(count))
        return [b.at(start, (output + (tile * len(self._rows) + row) * apart) * b.lanes) for output, tile in places]

    def _keep(self, sums: Sequence[Any], size: int, position: Any, first: Any, row: int) -> None:
        for value, place in zip(sums, self._sum_places(size, len(sums) // size, position, first, row), strict=True):
            self._b.store_vector(value, place)

    def _kept(self, size: int, count: int, position: Any, first: Any, row: int) -> Vectors:
        return [self._b.load_vector(it) for it in self._sum_places(size, count, position, first, row)]

    def _finish(self, finish: Finish, place: Any) -> None:
        """Have a tile finished; ``place`` is its place among those computed together."""
        b = self._b
        first = b.mul(b.add(self._first, place), INT(_BLOCKS))
        for row, buffers in enumerate(self._rows):
            number = b.add(b.mul(place, INT(len(self._rows))), INT(row))
            start = b.at(self._sums, b.mul(number, INT(POSITIONS * self._outputs * b.lanes)))
            with b.if_then(buffers.is_inside) if row else nullcontext():
                blocks = {number: buffers.enter(b.add(first, INT(number))) for number in range(_BLOCKS)}
                for together in [{number: block} for number, block in blocks.items()] if self._apart else [blocks]:
                    finish(buffers, partial(self._columns, buffers, start, together))

    def _columns(self, buffers: Buffers, start: Any, blocks: Mapping[int, Block], store: Store) -> None:
        """Compute the columns of some blocks of a tile from its sums of products, and ``store`` them by channel."""
        b = self._b

        def output(channel: Any) -> None:
            sums = b.at(start, b.mul(channel, INT(b.lanes)))
            m = [b.load_vector(b.at(sums, position * self._outputs * b.lanes)) for position in range(POSITIONS)]
            bias = b.splat_at(self._weights, b.add(channel, INT(self._conv.bias)))
            columns = _outputs(b, m, bias)
            for number, block in blocks.items():
                buffers.select(block)
                store(channel, columns[number * BLOCK : (number + 1) * BLOCK])

        b.repeat(INT(self._outputs), output)


def _outputs(b: Builder, m: Vectors, bias: Any) -> Vectors:
    """Return the columns of a tile, those of A m plus a bias, from the sums of products ``m`` of each position."""
    pairs = [(form(m[1], m[2]), form(m[3], m[4])) for form in (b.fadd, b.fsub)]
    far, near = pairs[0]
    found = [b.fadd(b.fadd(b.fadd(bias, m[0]), far), near)]
    for column in range(1, TILE):
        far, near = pairs[column % 2]
        total = b.fadd(bias, m[-1]) if column == TILE - 1 else bias
        found.append(b.fma(far, b.constant(FAR**column), b.fma(near, b.constant(NEAR**column), total)))
    return found

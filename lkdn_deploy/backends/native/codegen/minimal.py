"""Convolutions by minimal filtering, which ``winograd`` describes, for two or three tiles at a time.

Each weight is loaded once for all tiles. Position by position, the sums of products of a group of output channels are
in registers.
"""

from collections.abc import Callable, Mapping, Sequence
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
Finish = Callable[[Callable[[Store], None]], None]
"""Finishes blocks of a tile; takes a function that computes their vectors and gives them to a ``Store``."""

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
            loaded = buffers.load_vectors(source, address, range(-1, TILE + 1))
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


class TileEmitter:
    """Emits a convolution by minimal filtering.

    Args:
        builder: builder of the stage's function.
        buffers: its operands.
        weights: address of its weights.
        conv: the convolution.
        outputs: number of its output channels.
        apart: whether the blocks of a tile are finished one after the other, not channel by channel.
    """

    def __init__(
        self, builder: Builder, buffers: Buffers, weights: Any, conv: MinimalConv, outputs: int, *, apart: bool
    ) -> None:
        self._b, self._buffers, self._weights, self._conv = builder, buffers, weights, conv
        self._taps = len(conv.rows) * sum(channels for _, channels in conv.sources)
        self._outputs, self._apart = outputs, apart
        self._sums = builder.scratch(conv.tiles * POSITIONS * outputs)
        """(tiles, positions, outputs)"""
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

        def position(number: Any) -> None:
            for size, alike in groupby(self._conv.groups, itemgetter(1)):
                starts = [start for start, _ in alike]

                def group(index: Any, size: int, start: int) -> None:
                    self._group(number, size, steps, b.add(b.mul(index, INT(size)), INT(start)))

                b.repeat(INT(len(starts)), partial(group, size=size, start=starts[0]))

        b.repeat(INT(POSITIONS), position)

    def _group(self, position: Any, size: int, steps: dict[int, list[Any]], first: Any) -> None:
        """Sum up the products of one position for ``size`` output channels from ``first`` on."""
        b, conv, buffers = self._b, self._conv, self._buffers
        before = b.add(b.mul(position, INT(self._taps * self._outputs)), b.mul(first, INT(self._taps)))
        weights = b.at(self._weights, b.add(before, INT(conv.weights)))
        count = len(steps[conv.sources[0][0]])
        sums: Sequence[Any] = [b.constant(0)] * (size * count)
        for source, channels in conv.sources:
            start = b.mul(position, INT(channels * b.lanes))
            rows = [
                [b.at(b.at(buffers.channel(source, row, INT(0)), start), step) for step in steps[source]]
                for row in conv.rows
            ]

            def taps(channel: Any, carried: Sequence[Any], rows: list[Vectors], weights: Any) -> Sequence[Any]:
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

            sums = b.loop(INT(channels), sums, partial(taps, rows=rows, weights=weights))
            weights = b.at(weights, channels * len(conv.rows) * size)
        target = b.at(self._sums, b.mul(b.add(b.mul(position, INT(self._outputs)), first), INT(b.lanes)))
        for number, value in enumerate(sums):
            output, tile = divmod(number, count)
            b.store_vector(value, b.at(target, (output + tile * POSITIONS * self._outputs) * b.lanes))

    def _finish(self, finish: Finish, place: Any) -> None:
        """Have a tile finished; ``place`` is its place among those computed together."""
        b = self._b
        start = b.at(self._sums, b.mul(place, INT(POSITIONS * self._outputs * b.lanes)))
        first = b.mul(b.add(self._first, place), INT(_BLOCKS))
        blocks = {number: self._buffers.enter(b.add(first, INT(number))) for number in range(_BLOCKS)}
        for together in [{number: block} for number, block in blocks.items()] if self._apart else [blocks]:
            finish(partial(self._columns, start, together))

    def _columns(self, start: Any, blocks: Mapping[int, Block], store: Store) -> None:
        """Compute the columns of some blocks of a tile from its sums of products, and ``store`` them by channel."""
        b = self._b

        def output(channel: Any) -> None:
            sums = b.at(start, b.mul(channel, INT(b.lanes)))
            m = [b.load_vector(b.at(sums, position * self._outputs * b.lanes)) for position in range(POSITIONS)]
            bias = b.splat_at(self._weights, b.add(channel, INT(self._conv.bias)))
            columns = _outputs(b, m, bias)
            for number, block in blocks.items():
                self._buffers.select(block)
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

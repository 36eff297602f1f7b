"""Convolutions by minimal filtering, which ``winograd`` describes, for pairs of blocks.

Each weight is loaded once for both blocks. Position by position, the sums of products of a group of output channels are
in registers. The first group computes the factors of the input, and stores them for the others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from lkdn_deploy.backends.native.codegen.buffers import Buffers, Vectors
from lkdn_deploy.backends.native.lower import MinimalConv, StageSignature
from lkdn_deploy.backends.native.winograd import INPUT_TRANSFORM, POSITIONS
from lkdn_deploy.jit.builder import INT, Builder

PAIR = 2
"""Blocks that are computed together."""


@dataclass(frozen=True, slots=True)
class _Loop:
    """A loop over taps of a position; ``factors`` gives those of the input, of each tap one vector for each block."""

    first: int
    """The first tap."""
    count: int
    """Number of iterations."""
    step: int
    """Taps of an iteration."""
    factors: Callable[[Any], Sequence[Vectors]]


class TileEmitter:
    """Emits a convolution by minimal filtering.

    Args:
        builder: builder of the stage's function.
        signature: signature of the stage.
        buffers: its operands.
        weights: address of its weights.
        conv: the convolution.
        result: operand that it computes.
    """

    def __init__(
        self,
        builder: Builder,
        signature: StageSignature,
        buffers: Buffers,
        weights: Any,
        conv: MinimalConv,
        result: int,
    ) -> None:
        self._b, self._buffers, self._weights, self._conv = builder, buffers, weights, conv
        self._channels = [(source, signature.operands[source].channels) for source in conv.sources]
        self._taps = len(conv.rows) * sum(channels for _, channels in self._channels)
        self._outputs = signature.operands[result].channels
        self._sums = builder.scratch(PAIR * POSITIONS * self._outputs)
        """(blocks, positions, outputs)"""
        self._factors = builder.scratch(PAIR * self._taps)
        """(taps, blocks)"""

    def sum_products(self, blocks: Any) -> None:
        """Sum up the products of all positions for a pair of blocks; if ``blocks`` is 1, twice for the first."""
        b = self._b
        (first, count), *others = self._conv.groups
        again = [_Loop(0, self._taps, 1, self._stored)]
        for position in range(POSITIONS):
            self._group(position, count, self._transformed(position, blocks, keep=bool(others)), INT(first))
            for size, alike in groupby(others, itemgetter(1)):
                starts = [start for start, _ in alike]

                def repetition(index: Any, position: int, count: int, start: int) -> None:
                    self._group(position, count, again, b.add(b.mul(index, INT(count)), INT(start)))

                b.repeat(INT(len(starts)), partial(repetition, position=position, count=size, start=starts[0]))

    def _transformed(self, position: int, blocks: Any, *, keep: bool) -> Iterator[_Loop]:
        """Yield a loop over each source's channels, which computes factors, and stores them if they are to be kept."""
        b, buffers, rows = self._b, self._buffers, len(self._conv.rows)
        start = 0
        for source, channels in self._channels:
            pointers = [buffers.channel(source, row, INT(0)) for row in self._conv.rows]
            behind = b.mul(b.sub(blocks, INT(PAIR - 1)), INT(buffers.block_step(source)))

            def factors(channel: Any, source: int, pointers: Sequence[Any], behind: Any, start: int) -> list[Vectors]:
                step, found = b.mul(channel, buffers.channel_steps[source]), []
                for number, pointer in enumerate(pointers):
                    block = b.at(pointer, step)
                    found.append([self._factor(position, source, it) for it in (block, b.at(block, behind))])
                    tap = b.add(b.mul(channel, INT(rows)), INT(start + number))
                    for place, value in enumerate(found[-1] if keep else ()):
                        b.store_vector(value, self._place(tap, place))
                return found

            yield _Loop(
                start, channels, rows, partial(factors, source=source, pointers=pointers, behind=behind, start=start)
            )
            start += channels * rows

    def _factor(self, position: int, source: int, channel: Any) -> Any:
        """Return a position's factor of the input; ``channel`` is the address of the channel of a block."""
        one, other, sign = INPUT_TRANSFORM[position]
        d = self._buffers.load_vectors(source, channel, (one, other))
        return self._b.fadd(d[one], d[other]) if sign > 0 else self._b.fsub(d[one], d[other])

    def _place(self, tap: Any, place: int) -> Any:
        """Return the address of a stored factor."""
        return self._b.at(
            self._factors, self._b.mul(self._b.add(self._b.mul(tap, INT(PAIR)), INT(place)), INT(self._b.lanes))
        )

    def _stored(self, tap: Any) -> list[Vectors]:
        return [[self._b.load_vector(self._place(tap, place)) for place in range(PAIR)]]

    def _group(self, position: int, count: int, loops: Iterable[_Loop], first: Any) -> None:
        """Sum up the products of one position for ``count`` output channels from ``first`` on."""
        b = self._b
        start = INT(self._conv.weights + position * (1 + self._taps) * self._outputs)
        weights = b.at(self._weights, b.add(b.mul(first, INT(1 + self._taps)), start))

        def body(loop: _Loop, number: Any, carried: Sequence[Any]) -> Sequence[Any]:
            found = list(carried)
            row = b.at(weights, b.add(b.mul(number, INT(loop.step * count)), INT((1 + loop.first) * count)))
            for tap, loaded in enumerate(loop.factors(number)):
                for output in range(count):
                    weight = b.splat_at(row, INT(tap * count + output))
                    for place, value in enumerate(loaded, PAIR * output):
                        found[place] = b.fma(weight, value, found[place])
            return found

        biases = [b.splat_at(weights, INT(output)) for output in range(count)]
        sums: Sequence[Any] = [bias for bias in biases for _ in range(PAIR)]
        for loop in loops:
            sums = b.loop(INT(loop.count), sums, partial(body, loop))
        target = b.at(self._sums, b.mul(b.add(first, INT(position * self._outputs)), INT(b.lanes)))
        for number, value in enumerate(sums):
            output, place = divmod(number, PAIR)
            b.store_vector(value, b.at(target, (output + place * POSITIONS * self._outputs) * b.lanes))

    def form_outputs(self, place: Any, store: Callable[[Any, Vectors], None]) -> None:
        """Compute the columns of a block of the pair from the sums of products, and ``store`` them by channel."""
        b = self._b
        start = b.at(self._sums, b.mul(place, INT(POSITIONS * self._outputs * b.lanes)))

        def output(channel: Any) -> None:
            sums = b.at(start, b.mul(channel, INT(b.lanes)))
            m = [b.load_vector(b.at(sums, position * self._outputs * b.lanes)) for position in range(POSITIONS)]
            store(channel, [b.fadd(b.fadd(m[0], m[1]), m[2]), b.fsub(b.fsub(m[1], m[2]), m[3])])

        b.repeat(INT(self._outputs), output)

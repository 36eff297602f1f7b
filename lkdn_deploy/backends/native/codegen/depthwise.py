"""Depthwise convolutions: a row, channel by channel, so that what neighbouring blocks share is still in the cache.

There are few registers for vectors of few lanes, and hosts of WebAssembly do not use them well: they order what they
compute by the results to which it leads, all of these at once, but keep the order of loads and stores. So there sums
are stored after some products, which separates what is computed before from what is loaded after it, and blocks are
finished one after the other. Weights lie in memory in all lanes, where loads need no address of their own.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial, reduce
from typing import Any

from lkdn_deploy.backends.native.codegen.arithmetic import FloatArithmetic, PairArithmetic
from lkdn_deploy.backends.native.codegen.buffers import Buffers, Vectors
from lkdn_deploy.backends.native.codegen.fixed_steps import FixedSteps
from lkdn_deploy.backends.native.layout import BLOCK, LaneFormat
from lkdn_deploy.backends.native.lower import DepthwiseConv, FusedKernel, StageSignature
from lkdn_deploy.jit.builder import INT, Builder

_ADJACENT_BLOCKS = (5, 2, 1)
"""Numbers of blocks that a depthwise convolution in fixed point computes at once, with one load of each weight: as many
as are left, the first that suits."""

_FEW_LANES, _FEW_BLOCKS = 4, (2, 1)
"""The same for vectors of so many lanes, of which there are few registers."""

_MANY_SUMS = 10
"""Sums of a depthwise convolution whose products need not wait for each other's results."""

_MOST_SUMS = 2 * BLOCK
"""Vectors of the sums of a block in a step in fixed point: of two planes, or of a plane of two channels."""

_APART = 12
"""Products after which sums are stored."""

_Loaded = Callable[[int], Any]
"""Vectors by their number or place."""

_Sums = list[list[Vectors]]
"""The sums that add up to each vector of each block, by block and vector."""


class DepthwiseEmitter:
    """The depthwise convolutions of a stage; the arguments are those of its emitter, and how to finish a block."""

    def __init__(
        self,
        builder: Builder,
        signature: StageSignature,
        buffers: Buffers,
        weights: Any,
        maths: FloatArithmetic | PairArithmetic,
        fixed: FixedSteps | None,
        store: Callable[[FusedKernel, Any, Vectors], None],
    ) -> None:
        self._b, self._signature, self._buffers, self._weights = builder, signature, buffers, weights
        self._maths, self._fixed, self._store = maths, fixed, store
        self._memory: tuple[Any, Any] | None = None
        """Places for the weights of a step, and for the sums of its blocks, where there are few registers."""
        sizes = (
            self._planes(it, it.producer) * self._length(it.producer)
            for it in signature.kernels
            if isinstance(it.producer, DepthwiseConv)
        )
        most = max(sizes, default=0)
        if builder.anchors and fixed and most:
            self._memory = builder.scratch(most), builder.scratch(_FEW_BLOCKS[0] * _MOST_SUMS)

    def emit(self, kernel: FusedKernel, conv: DepthwiseConv) -> None:
        """Compute a row of a kernel."""
        b, planes = self._b, self._planes(kernel, conv)
        shares_lanes = self._signature.operands[kernel.result].lane_format is LaneFormat.ROWS
        end = self._buffers.row_end(kernel.result) if shares_lanes else None

        def row(index: Any) -> None:
            numbers = [b.add(b.mul(index, INT(planes)), INT(it)) for it in range(planes)] if planes > 1 else [index]
            self._row(kernel, conv, numbers, index)
            if shares_lanes:
                self._buffers.complete(kernel.result, end, index)

        b.repeat(INT(self._signature.operands[conv.source].planes // planes), row)

    def _planes(self, kernel: FusedKernel, conv: DepthwiseConv) -> int:
        """Return the planes of a step of a kernel."""
        return max(1, kernel.channels // self._signature.operands[conv.source].lane_format.channels)

    def _length(self, conv: DepthwiseConv) -> int:
        """Return the number of biases and weights of a plane."""
        return self._signature.operands[conv.source].lane_format.channels + conv.length

    def _row(self, kernel: FusedKernel, conv: DepthwiseConv, planes: Sequence[Any], step: Any) -> None:
        """Compute a row of the planes of a step of a kernel."""
        in_advance = self._memory or not self._fixed
        weights = [self._plane_weights(conv, *it) for it in enumerate(planes)] if in_advance else []

        def blocks(count: int, index: Any) -> None:
            self._buffers.enter(index)
            mine = weights or [self._plane_weights(conv, *it) for it in enumerate(planes)]
            loads = [*zip(planes, map(cache, mine), strict=True)]
            if self._memory:
                self._blocks_in_turn(kernel, conv, loads, step, index, count)
                return
            sums = [self._sums(conv, plane, it, count) for plane, it in loads]
            for number in range(count):
                if number:
                    self._buffers.enter(self._b.add(index, INT(number)))
                if self._fixed:
                    self._fixed.prefetch(kernel, self._b.add(step, INT(1)))
                self._store(kernel, step, [total for it in sums for total in it[number]])

        self._repeat_blocks(kernel, blocks)

    def _blocks_in_turn(
        self,
        kernel: FusedKernel,
        conv: DepthwiseConv,
        planes: Sequence[tuple[Any, _Loaded]],
        step: Any,
        first: Any,
        count: int,
    ) -> None:
        """Compute adjacent blocks of a step by way of memory; ``planes`` are its planes with their weights."""
        if self._fixed is None or self._memory is None:
            raise AssertionError(kernel)
        b, (_, memory) = self._b, self._memory
        parts = BLOCK * self._signature.operands[conv.source].lane_format.channels

        def keep(number: int, sums: _Sums) -> None:
            for block, totals in enumerate(sums):
                for place, (total,) in enumerate(totals, block * _MOST_SUMS + number * parts):
                    b.store_vector(total, b.at(memory, place * b.lanes))

        def finish(block: Any) -> None:
            self._buffers.enter(b.add(first, block))
            start = b.at(memory, b.mul(block, INT(_MOST_SUMS * b.lanes)))
            self._store(
                kernel, step, [self._maths.load(b.at(start, it * b.lanes)) for it in range(len(planes) * parts)]
            )

        for number, (plane, weights) in enumerate(planes):
            self._sums(conv, plane, weights, count, partial(keep, number))
        self._fixed.repeat(kernel, INT(count), finish)

    def _sums(
        self,
        conv: DepthwiseConv,
        plane: Any,
        weights: _Loaded,
        count: int,
        keep: Callable[[_Sums], None] | None = None,
    ) -> list[Vectors]:
        """Return the sums of a plane in adjacent blocks.

        Args:
            conv: the convolution.
            plane: number of the plane.
            weights: its biases and weights.
            count: number of blocks, of which the first is the current one.
            keep: is called with the sums so far after some products, and at the end.
        """
        maths, operand = self._maths, self._signature.operands[conv.source]
        biases, step = operand.lane_format.channels, operand.lane_format.block_vectors
        # Where there are few vectors, two sums for each: a single chain of all taps would wait for its own results.
        chains = 1 if keep or count * biases * BLOCK >= _MANY_SUMS else 2
        first = [[bias, maths.zero][:chains] for bias in map(weights, range(biases)) for _ in range(BLOCK)]
        sums = [[[*it] for it in first] for _ in range(count)]
        done = 0
        for products, row in zip(conv.products, conv.rows, strict=True):
            places = sorted({it.vector + step * block for block in range(count) for it in products})
            pointer = self._buffers.channel(conv.source, row, plane)
            load = cache(self._buffers.vector_loader(conv.source, pointer, places[0]))
            for place in [] if keep else places:
                load(place)
            for it in products:
                weight, chain = weights(biases + it.weight), it.weight // biases % chains
                for block in range(count):
                    total, value = sums[block][it.total], maths.typed(load(it.vector + step * block))
                    total[chain] = maths.multiply_add(weight, value, total[chain])
                done += count
                if keep and (done % _APART < count or done == count * sum(map(len, conv.products))):
                    keep(sums)
        return [[reduce(maths.add, total) for total in block] for block in sums]

    def _repeat_blocks(self, kernel: FusedKernel, blocks: Callable[[int, Any], None]) -> None:
        """Emit a loop over the blocks of a row, which keeps the extremes of what a kernel computes in registers.

        Args:
            kernel: the kernel.
            blocks: emits adjacent blocks from their number and the first.
        """
        b, fixed = self._b, self._fixed
        if not fixed:
            b.repeat(self._buffers.blocks, partial(blocks, 1))
            return

        def adjacent(number: int, done: Any, index: Any) -> None:
            blocks(number, b.add(done, b.mul(index, INT(number))))

        done = INT(0)
        repeat = b.repeat if self._memory else partial(fixed.repeat, kernel)
        for number in _ADJACENT_BLOCKS if b.lanes > _FEW_LANES else _FEW_BLOCKS:
            rounds = b.udiv(b.sub(self._buffers.blocks, done), INT(number))
            repeat(rounds, partial(adjacent, number, done))
            done = b.add(done, b.mul(rounds, INT(number)))

    def _plane_weights(self, conv: DepthwiseConv, number: int, plane: Any) -> _Loaded:
        """Return the biases and the weights of a plane, the one of this number of a step, each in all lanes."""
        b, source, length = self._b, self._signature.operands[conv.source], self._length(conv)
        first = b.add(b.mul(plane, INT(length)), INT(conv.weights))
        if source.lane_format is LaneFormat.ROWS:
            first = b.add(first, b.mul(self._buffers.row_pair(conv.source).is_second(), INT(source.planes * length)))
        start = b.anchored(b.at(self._weights, first))
        found = (self._maths.splat_at(start, INT(place)) for place in range(length))
        if not self._memory:
            return [*found].__getitem__
        kept = b.at(self._memory[0], number * length * b.lanes)
        for place, weight in enumerate(found):
            b.store_vector(weight, b.at(kept, place * b.lanes))
        return lambda place: self._maths.load(b.at(kept, place * b.lanes))

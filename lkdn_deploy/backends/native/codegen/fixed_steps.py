"""The steps of a kernel in fixed point after its sums: rescaling, elementwise operations, extremes, and the store.

A value is a list of vectors. As 16-bit integers, these are the plane of a step of the kernel: pairs of two channels,
a vector for each of a block, or of two columns of one channel. As float32 numbers, or sums of 32 bits, there is a
vector for each of a block, channel by channel.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llvmlite import ir

from lkdn_deploy.backends.native.codegen import activations
from lkdn_deploy.backends.native.codegen.arithmetic import PairArithmetic
from lkdn_deploy.backends.native.codegen.buffers import Buffers, Vectors
from lkdn_deploy.backends.native.fixed.fixed_ir import INPUT_SCALE, PIECES
from lkdn_deploy.backends.native.ir import BoundaryKind
from lkdn_deploy.backends.native.layout import BLOCK, LINE, LaneFormat
from lkdn_deploy.backends.native.lower import (
    Conv,
    EpilogueOp,
    FixedStep,
    FusedKernel,
    Load,
    StageSignature,
    Watch,
)
from lkdn_deploy.jit.builder import INT

if TYPE_CHECKING:
    from lkdn_deploy.jit.sixteen import LookupTable

_COEFFICIENTS = 3
_TABLE_FLOATS = PIECES // 2


class FixedSteps:
    """The steps of the kernels of one stage; the arguments are those of its emitter."""

    def __init__(self, maths: PairArithmetic, signature: StageSignature, buffers: Buffers, weights: Any) -> None:
        self._b, self._pairs = maths.builder, maths.pairs
        self._maths, self._signature, self._buffers, self._weights = maths, signature, buffers, weights
        self._tables: dict[int, list[LookupTable]] = {}
        self._extremes = [tuple(self._b.scratch(1) for _ in range(2)) for _ in range(signature.records)]
        """Lowest and highest numbers of each lane, by record."""
        self._current: dict[tuple[int, int], Any] = {}
        """The extremes that are in registers, by record and side."""
        convs = (it.producer for it in signature.kernels if isinstance(it.producer, Conv) and it.epilogue)
        self._produced_values = self._b.scratch(
            max((it.count for conv in convs for it in conv.groups), default=1) * BLOCK
        )

    def begin(self) -> None:
        """Emit what precedes the first block."""
        b, pairs = self._b, self._pairs
        steps = (op.fixed for kernel in self._signature.kernels for op in kernel.epilogue if op.fixed)
        for start in sorted({it.table for it in steps if it.table is not None}):
            places = (start + number * _TABLE_FLOATS for number in range(_COEFFICIENTS))
            self._tables[start] = [pairs.load_table(b.at(self._weights, it)) for it in places]
        for low, high in self._extremes:
            b.store_vector(pairs.integers(0), low)
            b.store_vector(pairs.integers(0), high)

    def end(self) -> None:
        """Emit what follows the last block: the extremes of the row extend the records."""
        b, pairs = self._b, self._pairs
        if not self._extremes:
            return
        records = self._buffers.records()
        for number, places in enumerate(self._extremes):
            low, high = (pairs.halves(self._maths.load(it)) for it in places)
            for side, found in enumerate(pairs.lowest_and_highest(low, high)):
                place = b.gep(records, [INT(2 * number + side)], source_etype=INT)
                before = b.load(place, typ=INT)
                beyond = b.icmp_signed(">" if side else "<", found, before)
                b.store(b.select(beyond, found, before), place)

    def channel(self, number: int, channel: Any, factor: int | None) -> Vectors:
        """Return a channel of an operand as float32 numbers, times a factor of the channel."""
        b, pairs = self._b, self._pairs
        if self._signature.operands[number].lane_format is LaneFormat.FLOAT:
            values = self._buffers.load(number, channel)
        else:
            plane, half = b.udiv(channel, INT(2)), b.and_(channel, INT(1))
            amount = b.splat(b.trunc(b.mul(b.sub(INT(1), half), INT(16)), pairs.integers(0).type.element), b.shorts)
            shifted = (b.shl(it, amount) for it in map(self._maths.typed, self._buffers.load(number, plane)))
            values = [b.sitofp(pairs.high(it), b.vector) for it in shifted]
        if factor is None:
            return values
        weight = b.splat_at(self._weights, b.add(channel, INT(factor)))
        return [b.fmul(it, weight) for it in values]

    def load(self, kernel: FusedKernel, load: Load, index: Any) -> Vectors:
        """Return what a kernel that begins with a load takes from its operand."""
        b, pairs, operand = self._b, self._pairs, self._signature.operands[load.source]
        if operand.boundary is BoundaryKind.NCHW:
            return self._image(kernel, load.source, index)
        if operand.lane_format is LaneFormat.FLOAT:
            channels = self._channels(kernel.channels, index)
            return [it for one in channels for it in self._buffers.load(load.source, b.add(one, INT(load.first)))]
        plane = b.add(index, INT(load.first // 2))
        found = [self._maths.typed(it) for it in self._buffers.load(load.source, plane)]
        last = INT(self._signature.operands[kernel.result].planes - 1)
        if load.first % 2:
            following = b.add(plane, INT(1))
            inside = b.icmp_signed("<", following, INT(operand.planes))
            behind = self._buffers.load(load.source, b.select(inside, following, plane))
            sixteen = pairs.integers(16)
            found = [
                pairs.joined(b.lshr(one, sixteen), self._maths.typed(other))
                for one, other in zip(found, behind, strict=True)
            ]
        if load.is_odd:
            word = b.select(b.icmp_signed("==", index, last), pairs.integers(0xFFFF), pairs.integers(-1))
            found = [b.and_(it, word) for it in found]
        return found

    def prefetch(self, kernel: FusedKernel, index: Any) -> None:
        """Prefetch what a step of a kernel's epilogue reads of whole maps in the current block."""
        b, buffers, operands = self._b, self._buffers, self._signature.operands
        for source in {it.source for it in kernel.epilogue if it.source is not None}:
            if not operands[source].channel_major and operands[source].halo_columns is not None:
                place = buffers.channel(source, 0, index)
                for line in range(0, BLOCK * b.lanes, LINE):
                    b.prefetch(b.at(place, line))

    def store(self, kernel: FusedKernel, index: Any, values: Vectors) -> None:
        """Apply a kernel's steps to what its producer gave, and store the result.

        Args:
            kernel: the kernel.
            index: number of the step.
            values: sums of 32 bits where the kernel rescales, otherwise numbers.
        """
        self._finish(kernel, index, self._produced(kernel, index, values))

    def store_all(self, kernel: FusedKernel, first: Any, sums: Vectors) -> None:
        """Do as `store` does for the sums of adjacent steps of a convolution, of which ``first`` is the number."""
        b = self._b
        each = kernel.channels * BLOCK
        places = [b.add(first, INT(it)) for it in range(len(sums) // each)]
        with self._extremes_in_registers([kernel.watch]):
            found = [
                self._produced(kernel, place, sums[each * step : each * (step + 1)])
                for step, place in enumerate(places)
            ]
        if not kernel.epilogue:
            for place, values in zip(places, found, strict=True):
                self._finish(kernel, place, values)
            return
        # In a loop of its own: unrolled for all steps, the epilogue would be most of the code. Meanwhile its operands
        # must not be where the result goes: another thread may have finished the same row there already, and read it.
        count = len(found[0])
        kind = found[0][0].type
        for place, value in enumerate(it for values in found for it in values):
            b.store_vector(value, b.at(self._produced_values, place * b.lanes))

        def finish(index: Any) -> None:
            start = b.at(self._produced_values, b.mul(index, INT(count * b.lanes)))
            places = (b.at(start, part * b.lanes) for part in range(count))
            values = [b.load(it, typ=kind, align=4 * b.lanes) for it in places]
            self._finish(kernel, b.add(index, first), values)

        self._repeat(self._later_watches(kernel), INT(len(places)), finish)

    def repeat(self, kernel: FusedKernel, count: Any, body: Callable[[Any], None]) -> None:
        """Emit a loop over steps of a kernel, which keeps the extremes of what it computes in registers."""
        self._repeat([kernel.watch, *self._later_watches(kernel)], count, body)

    def _later_watches(self, kernel: FusedKernel) -> list[Watch | None]:
        return [op.fixed.watch for op in kernel.epilogue if op.fixed]

    def _repeat(self, watches: Sequence[Watch | None], count: Any, body: Callable[[Any], None]) -> None:
        def iteration(index: Any, extremes: Sequence[Any]) -> Vectors:
            self._current |= dict(zip(keys, extremes, strict=True))
            body(index)
            return [self._current[key] for key in keys]

        with self._extremes_in_registers(watches) as keys:
            found = self._b.loop(count, [self._current[key] for key in keys], iteration)
            self._current |= dict(zip(keys, found, strict=True))

    @contextmanager
    def _extremes_in_registers(self, watches: Sequence[Watch | None]) -> Iterator[list[tuple[int, int]]]:
        """Keep extremes in registers, and yield record and side of each, which are their keys."""
        keys = [(it.record, side) for it in watches if it for side, wanted in enumerate((it.low, it.high)) if wanted]
        self._current |= {(record, side): self._maths.load(self._extremes[record][side]) for record, side in keys}
        yield keys
        for record, side in keys:
            self._b.store_vector(self._current.pop((record, side)), self._extremes[record][side])

    def _produced(self, kernel: FusedKernel, index: Any, values: Vectors) -> Vectors:
        """Return the numbers that a producer gave, as the epilogue takes them."""
        if kernel.rescale:
            values = self._rescaled(kernel, index, values)
        elif kernel.to_integers:
            values = self._quantised(kernel, values)
        return self._watched(kernel.watch, self._signature.operands[kernel.result].lane_format, values)

    def _finish(self, kernel: FusedKernel, index: Any, values: Vectors) -> None:
        """Apply a kernel's epilogue, and store the result."""
        buffers, result = self._buffers, self._signature.operands[kernel.result]
        computed = [values]
        for op in kernel.epilogue:
            if op.fixed is None:
                raise AssertionError(op)
            found = self._step(kernel, op, op.fixed, index, computed)
            computed.append(self._watched(op.fixed.watch, result.lane_format, found))
        values = computed[-1]
        if result.lane_format is LaneFormat.FLOAT:
            for place, channel in enumerate(self._channels(kernel.channels, index)):
                buffers.store(kernel.result, channel, values[place * BLOCK : (place + 1) * BLOCK])
            return
        if result.halo_columns and (kernel.epilogue or not kernel.watch):
            values = self._inside(result.lane_format, values)
        if result.lane_format is LaneFormat.ROWS:
            buffers.store_half(kernel.result, index, values[0])
            return
        buffers.store(kernel.result, index, values)

    def _channels(self, each: int, index: Any) -> list[Any]:
        """Return the channels of a step."""
        b = self._b
        return [b.add(b.mul(index, INT(each)), INT(it)) for it in range(each)]

    def _by_channel(self, kernel: FusedKernel, index: Any, offset: int) -> Vectors:
        """Return a float32 weight of each channel of a step, for each vector of it."""
        b = self._b
        found = (b.splat_at(self._weights, b.add(it, INT(offset))) for it in self._channels(kernel.channels, index))
        return [it for it in found for _ in range(BLOCK)]

    def _pair_at(self, offset: int, index: Any) -> Any:
        """Return the 16-bit weights of a step."""
        return self._pairs.halves(self._pairs.splat_at(self._weights, self._b.add(index, INT(offset))))

    def _in_pairs(self, kernel: FusedKernel, values: Vectors) -> list[tuple[Any, Any]]:
        """Return the vectors of a step that become pairs, of channels or of columns."""
        return (
            [(values[it], values[it + BLOCK]) for it in range(BLOCK)]
            if kernel.channels > 1
            else [(values[0], values[1])]
        )

    # Formats.

    def _rescaled(self, kernel: FusedKernel, index: Any, sums: Vectors) -> Vectors:
        b, pairs, rescale = self._b, self._pairs, kernel.rescale
        if rescale is None:
            raise AssertionError(kernel)
        if not rescale.to_integers:
            factors = self._by_channel(kernel, index, rescale.weights)
            return [b.fmul(b.sitofp(it, b.vector), factor) for it, factor in zip(sums, factors, strict=True)]
        places = (b.add(it, INT(rescale.weights)) for it in self._channels(kernel.channels, index))
        shifts = [it for place in places for it in [pairs.splat_at(self._weights, place)] * BLOCK]
        shifted = [pairs.shift_right(*it) for it in zip(sums, shifts, strict=True)]
        return pairs.pack_all(self._in_pairs(kernel, shifted))

    def _quantised(self, kernel: FusedKernel, values: Vectors) -> Vectors:
        return [self._pairs.rounded(low, high) for low, high in self._in_pairs(kernel, values)]

    def _floats(self, kernel: FusedKernel, index: Any, values: Vectors, factor: int | None) -> Vectors:
        """Return numbers of either kind as float32, times factors of the channels."""
        b, pairs = self._b, self._pairs
        if values[0].type != b.vector:
            parts = [[half(it) for it in values] for half in (pairs.low, pairs.high)]
            values = [b.sitofp(it, b.vector) for part in parts for it in part]
        if factor is None:
            return values
        weights = self._by_channel(kernel, index, factor)
        return [b.fmul(*it) for it in zip(values, weights, strict=True)]

    def _image(self, kernel: FusedKernel, number: int, index: Any) -> Vectors:
        """Return the input image's channels as 16-bit integers; a channel that it lacks is 0."""
        b, last = self._b, self._signature.operands[number].channels - 1
        found: Vectors = []
        for channel in self._channels(kernel.channels, index):
            there = b.icmp_signed("<=", channel, INT(last))
            scale = b.select(there, b.constant(INPUT_SCALE), b.constant(0))
            values = self._buffers.load(number, b.select(there, channel, INT(last)))
            found += [b.fmul(it, scale) for it in values]
        return self._quantised(kernel, found)

    # Extremes.

    def _inside(self, lane_format: LaneFormat, values: Vectors) -> Vectors:
        """Return pairs with zeros outside the image."""
        words = self._buffers.inside(columns=lane_format is not LaneFormat.CHANNELS)
        return [self._b.and_(*it) for it in zip(values, words, strict=True)]

    def _watched(self, watch: Watch | None, lane_format: LaneFormat, values: Vectors) -> Vectors:
        """Extend the extremes of a value, and return it with zeros outside the image."""
        if watch is None:
            return values
        b, pairs = self._b, self._pairs
        values = self._inside(lane_format, values)
        for side, name, wanted in ((0, "smin", watch.low), (1, "smax", watch.high)):
            if wanted:
                key = watch.record, side
                place = self._extremes[watch.record][side]
                found = pairs.halves(self._current[key] if key in self._current else self._maths.load(place))
                for it in values:
                    found = pairs.of_halves(name, found, pairs.halves(it))
                if key in self._current:
                    self._current[key] = pairs.pairs(found)
                else:
                    b.store_vector(pairs.pairs(found), place)
        return values

    # Elementwise operations.

    def _step(
        self, kernel: FusedKernel, op: EpilogueOp, step: FixedStep, index: Any, computed: Sequence[Vectors]
    ) -> Vectors:
        if not step.in_integers:
            return self._float_step(kernel, op, step, index, computed)
        pairs, b = self._pairs, self._b
        values = [pairs.halves(it) for it in computed[op.left]]
        zero = ir.Constant(pairs.halves_type, [0] * pairs.halves_type.count)
        if step.table is not None:
            found = self._activation(values, step.table, op.weights or 0, index)
        elif op.kind in ("copy", "relu"):
            found = values if op.kind == "copy" else [pairs.of_halves("smax", it, zero) for it in values]
        else:
            others = [pairs.halves(it) for it in self._second(op, step, index, computed)]
            if op.kind == "leaky":
                found = [
                    b.add(
                        pairs.of_halves("smax", it, zero),
                        pairs.multiply_high(pairs.of_halves("smin", it, zero), slope),
                    )
                    for it, slope in zip(values, others, strict=True)
                ]
            else:
                name = _INTEGER_OPS[op.kind]
                swapped = op.kind == "rsub"
                found = [
                    pairs.of_halves(name, *(reversed(it) if swapped else it)) for it in zip(values, others, strict=True)
                ]
        return [pairs.pairs(it) for it in found]

    def _activation(self, values: Vectors, table: int, offset: int, index: Any) -> Vectors:
        """Return max(x, 0) minus the residue of each vector, as ``fixed_ir.FixedActivation`` defines it."""
        b, pairs = self._b, self._pairs
        first = b.mul(index, INT(4))
        end, step, doubled, factor = (self._pair_at(offset + it, first) for it in range(4))
        zero = ir.Constant(pairs.halves_type, [0] * pairs.halves_type.count)
        clipped = [pairs.of_halves("umin", pairs.absolute(it), end) for it in values]
        entries = pairs.look_up_all(self._tables[table], [pairs.multiply_high(it, step) for it in clipped])
        found = []
        for x, c, (t0, t1, t2) in zip(values, clipped, entries, strict=True):
            s = b.mul(c, doubled)
            r = b.add(t1, pairs.multiply_high(t2, s))
            r = b.add(t0, pairs.multiply_high(r, s))
            found.append(b.sub(pairs.of_halves("smax", x, zero), pairs.multiply_high(r, factor)))
        return found

    def _second(self, op: EpilogueOp, step: FixedStep, index: Any, computed: Sequence[Vectors]) -> Vectors:
        """Return the second operand of an operation on integers."""
        pairs = self._pairs
        if op.right is not None:
            return computed[op.right]
        if op.source is None:
            return [pairs.pairs(self._pair_at(op.weights or 0, index))] * len(computed[op.left])
        plane = INT(0) if step.shared else index
        found = [self._maths.typed(it) for it in self._buffers.load(op.source, plane)]
        return [pairs.joined(it, it) for it in found] if step.shared else found

    def _float_step(
        self, kernel: FusedKernel, op: EpilogueOp, step: FixedStep, index: Any, computed: Sequence[Vectors]
    ) -> Vectors:
        b = self._b
        first, *rest = step.factors
        values = self._floats(kernel, index, computed[op.left], first)
        if op.kind in activations.UNARY:
            found = [activations.UNARY[op.kind](b, it) for it in values]
        elif op.kind == "leaky_relu":
            found = [activations.BINARY["prelu"](b, it, b.constant(op.alpha)) for it in values]
        else:
            if op.source is None and op.right is None:
                others = self._by_channel(kernel, index, op.weights or 0)
            elif op.right is not None:
                others = self._floats(kernel, index, computed[op.right], rest[0])
            elif step.shared:
                others = self.channel(op.source or 0, INT(0), rest[0]) * kernel.channels
            elif self._signature.operands[op.source or 0].lane_format is LaneFormat.FLOAT:
                channels = self._channels(kernel.channels, index)
                loaded = [it for one in channels for it in self._buffers.load(op.source or 0, one)]
                others = self._floats(kernel, index, loaded, rest[0])
            else:
                loaded = [self._maths.typed(it) for it in self._buffers.load(op.source or 0, index)]
                others = self._floats(kernel, index, loaded, rest[0])
            found = [activations.BINARY[op.kind](b, *it) for it in zip(values, others, strict=True)]
        if step.result_factor is not None:
            weights = self._by_channel(kernel, index, step.result_factor)
            found = [b.fmul(*it) for it in zip(found, weights, strict=True)]
        return self._quantised(kernel, found) if step.to_integers else found


_INTEGER_OPS = {"add": "sadd.sat", "sub": "ssub.sat", "rsub": "ssub.sat", "max": "smax", "min": "smin"}

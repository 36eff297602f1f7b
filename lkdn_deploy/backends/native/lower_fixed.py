"""Lowering of fixed-point programs: as of others, but that lanes hold pairs of 16-bit integers, and weights do too.

Every value has an even number of channels here; one more than the program's is 0. The weights of a stage are written in
float32, whose bits are those of pairs or of 32-bit integers where the code takes them as such.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.fixed.fixed_ir import (
    FixedActivation,
    FixedConv,
    FixedElementwise,
    FixedOp,
    FixedSelect,
    FloatElementwise,
    FloatNorm,
    Ints,
    Shorts,
    Storage,
)
from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Elementwise, Floats, Op, require
from lkdn_deploy.backends.native.layout import BLOCK, LaneFormat
from lkdn_deploy.backends.native.lower import (
    Conv,
    DepthwiseConv,
    EpilogueOp,
    FixedStep,
    FusedKernel,
    LayerNorm,
    Load,
    LoweredStage,
    Lowering,
    Operand,
    Product,
    Rescale,
    TapLoop,
    Watch,
)
from lkdn_deploy.backends.native.pairing import PAIR, PairedPlan
from lkdn_deploy.backends.native.schedule import FusedOp, Stage

_FEW_OUTPUTS = 4
"""Output channels that a convolution can accumulate at once where registers are few: each tap has its own loop then."""


def even(channels: int) -> int:
    """Return the number of channels that a value has in fixed point."""
    return channels + channels % PAIR


def lower_fixed(stage: Stage, paired: PairedPlan, max_outputs: int) -> LoweredStage:
    """Lower a stage of a fixed-point program; see ``lower.lower``."""
    return _FixedLowering(paired, max_outputs).stage(stage)


def _pairs(low: Shorts, high: Shorts) -> Floats:
    """Return pairs of integers as the bits of float32."""
    found = (low.astype(np.int64) & 0xFFFF) | (high.astype(np.int64) & 0xFFFF) << 16
    return found.astype(np.uint32).view(np.float32)


def _padded(values: NDArray[Any], axis: int = 0) -> NDArray[Any]:
    """Return an array whose size in an axis is even, with zeros behind what there was."""
    widths = [(0, values.shape[it] % PAIR if it == axis else 0) for it in range(values.ndim)]
    return np.pad(values, widths)


class _FixedLowering(Lowering):
    def __init__(self, paired: PairedPlan, max_outputs: int) -> None:
        super().__init__(paired.fixed.program, paired.plan, max_outputs - max_outputs % PAIR)
        self._fixed, self._formats, self._distances = paired.fixed, paired.lane_formats, paired.distances
        self._few_outputs = max_outputs <= _FEW_OUTPUTS
        self._tables: dict[str, int] = {}
        self._watched: list[int] = []
        self._each = PAIR
        """Channels that the current kernel computes at a time."""

    def stage(self, stage: Stage) -> LoweredStage:
        """Lower the stage."""
        lowered = super().stage(stage)
        signature = replace(lowered.signature, fixed=True, records=len(self._watched))
        return replace(lowered, signature=signature, watched=tuple(self._watched))

    def _described(self, value: int) -> Operand:
        found = super()._described(value)
        if found.boundary is not None:
            return found
        channels, distance = even(found.channels), self._distances.get(value, 0)
        return replace(found, channels=channels, lane_format=self._formats[value], distance=distance)

    def _watch(self, value: int) -> Watch | None:
        wanted = self._fixed.formats[value]
        if not wanted.watch_low and not wanted.watch_high:
            return None
        self._watched.append(value)
        return Watch(len(self._watched) - 1, wanted.watch_low, wanted.watch_high)

    def _is_integer(self, value: int) -> bool:
        return self._fixed.formats[value].storage is Storage.INT16

    def _by_channel(self, values: Floats | Ints | None) -> int:
        """Append a weight of each channel, an integer of 32 bits or a float32."""
        if values is None:
            raise AssertionError
        padded = _padded(values)
        return self._append(
            padded.astype(np.float32) if values.dtype.kind == "f" else padded.astype(np.int32).view(np.float32)
        )

    def _by_step(self, *values: Shorts) -> int:
        """Append 16-bit weights, several for each step of the current kernel."""
        columns = []
        for it in values:
            padded = _padded(it)
            columns.append(_pairs(padded[::2], padded[1::2]) if self._each == PAIR else _pairs(padded, padded))
        return self._append(np.column_stack([it.view(np.int32) for it in columns]).view(np.float32))

    # Kernels.

    def _by_single_channels(self, fused: FusedOp) -> bool:
        """Return whether a kernel computes one channel at a time, as no other has a part in its lanes."""
        if self._formats[fused.output] is LaneFormat.FLOAT:
            in_pairs = self._formats[fused.op.inputs[0]] is LaneFormat.CHANNELS
            return isinstance(fused.op, DepthwiseOp) and not fused.epilogue and not in_pairs
        return self._formats[fused.output] is not LaneFormat.CHANNELS

    def _kernel(self, fused: FusedOp) -> FusedKernel:
        self._each = 1 if self._by_single_channels(fused) else PAIR
        op, output = self._fixed.ops[fused.op.output], fused.op.output
        producer: Conv | DepthwiseConv | LayerNorm | Load
        rescale, to_integers, watch = None, False, None
        epilogue, computed = [], [output]
        match op:
            case FixedConv():
                # The order matters: operands are numbered as they are met.
                producer = self._paired_conv(fused.op, op)
                rescale = Rescale(op.shift is not None, self._by_channel(op.factor if op.shift is None else op.shift))
                watch = self._watch(output)
            case FloatNorm():
                producer = self._norm(op)
                to_integers, watch = self._is_integer(output), self._watch(output)
            case FixedSelect():
                is_odd = self._program.channels[output] % PAIR == 1
                producer, watch = Load(self._operand(op.inputs[0]), op.first, is_odd), self._watch(output)
            case _:
                producer = Load(self._operand(op.inputs[0]))
                computed = [op.inputs[0], output]
                epilogue.append(self._fixed_epilogue(fused.op, op, computed[:1]))
        for it in fused.epilogue:
            epilogue.append(self._fixed_epilogue(it, self._fixed.ops[it.output], computed))
            computed.append(it.output)
        result = self._operand(fused.output)
        return FusedKernel(producer, tuple(epilogue), result, self._each, rescale, to_integers, watch)

    def _norm(self, op: FloatNorm) -> LayerNorm:
        source = self._operand(op.inputs[0])
        weights = self._append(np.column_stack([_padded(op.scale), _padded(op.shift)]))
        factor = None if op.factor is None else self._by_channel(op.factor)
        return LayerNorm(source, op.epsilon, weights, len(op.scale), op.centred, factor)

    def _fixed_epilogue(self, op: Op, fixed: FixedOp, computed: list[int]) -> EpilogueOp:
        if not isinstance(op, Elementwise):
            raise AssertionError(op)
        step, weights = FixedStep(True, True), None
        places = self._places(op.inputs, computed)
        swapped = places.swapped
        match fixed:
            case FixedActivation():
                weights = self._by_step(fixed.end, fixed.step, 2 * fixed.step, fixed.factor)
                step, kind, alpha = replace(step, table=self._table(fixed.table)), "activation", 0.0
            case FixedElementwise():
                kind, alpha = fixed.kind, 0.0
                weights = None if fixed.constant is None else self._by_step(fixed.constant)
            case FloatElementwise():
                kind, alpha = fixed.kind, fixed.alpha
                weights = None if fixed.constant is None else self._by_channel(fixed.constant)
                factors = [None if it is None else self._by_channel(it) for it in fixed.factors]
                factor = None if fixed.result_factor is None else self._by_channel(fixed.result_factor)
                step = FixedStep(
                    False, self._is_integer(fixed.output), tuple(factors[::-1] if swapped else factors), factor
                )
            case _:
                raise AssertionError(fixed)
        shared = (
            places.source is not None and self._program.channels[places.other] == 1 < self._program.channels[op.output]
        )
        step = replace(step, shared=shared, watch=self._watch(fixed.output))
        kind = "rsub" if swapped and kind == "sub" else kind
        return EpilogueOp(kind, places.source, weights, alpha, places.left, places.right, step)

    def _table(self, name: str) -> int:
        if name not in self._tables:
            table = self._fixed.tables[name].coefficients.astype(np.int16)
            self._tables[name] = self._append(np.ascontiguousarray(table).reshape(-1).view(np.float32))
        return self._tables[name]

    # Convolutions.

    def _paired_conv(self, op: Op, fixed: FixedConv) -> Conv | DepthwiseConv:
        require(all(map(self._is_integer, op.inputs)), "a convolution of float32 numbers in fixed point")
        if isinstance(op, DepthwiseOp):
            return self._depthwise(op, fixed)
        if not isinstance(op, ConvOp):
            raise AssertionError(op)
        integers: Any = {"weight": _padded(fixed.weight), "bias": _padded(fixed.bias)}
        return self._conv(replace(op, **integers))

    def _append_bias(self, bias: Floats | Ints) -> int:
        return self._append(bias.astype(np.int32).view(np.float32))

    def _channel_ranges(self, op: ConvOp) -> Iterator[tuple[int, int]]:
        """Yield first and count of output channels: whole steps of the kernel, and whole blocks where these are."""
        outputs, blocks = len(op.weight), op.blocks[0]
        if outputs != self._program.channels[op.output] or outputs // blocks % self._each:
            op = replace(op, blocks=(1, op.blocks[1]))
        return super()._channel_ranges(op)

    def _tap_loops(self, op: ConvOp, first: int, count: int, origin: int) -> Iterator[TapLoop]:
        """Yield the loops of ``count`` output channels, without taps whose weights are all zero."""
        weight = op.weight[first : first + count]
        rows, columns = weight.shape[2:]
        each = weight.shape[1] // op.blocks[1]
        start = 0
        for value in op.inputs:
            end = start + self._program.channels[value]
            inner = (it for it in range(0, weight.shape[1], each) if start < it < end and (it - start) % PAIR == 0)
            for low, high in pairwise(sorted({start, end, *inner})):
                part = _padded(weight[:, low:high], 1)
                for i in range(rows):
                    taps = [j for j in range(columns) if part[:, :, i, j].any()]
                    for used in [[it] for it in taps] if self._few_outputs else filter(None, [taps]):
                        row = part[:, :, i, used].transpose(1, 2, 0)
                        yield TapLoop(
                            self._operand(value),
                            (i - rows // 2) * op.dilation[0],
                            (low - start) // PAIR,
                            len(row) // PAIR,
                            tuple((j - columns // 2) * op.dilation[1] for j in used),
                            self._append(_pairs(row[::2], row[1::2])) - origin,
                        )
            start = end

    def _depthwise(self, op: DepthwiseOp, fixed: FixedConv) -> DepthwiseConv:
        source = self._operand(op.inputs[0])
        rows, columns = self._window(op)
        weight = _padded(fixed.weight)
        bias = _padded(fixed.bias).astype(np.int32)
        products: list[tuple[Product, ...]] = []
        pairs: list[Floats] = []
        lane_format = self._formats[op.inputs[0]]
        if lane_format is not LaneFormat.CHANNELS:
            biases = bias[:, None]
            if lane_format is LaneFormat.ROWS:
                return self._in_pairs_of_rows(source, weight, biases, rows, columns)
            products += [tuple(self._column_products(weight[:, row], columns, pairs)) for row in range(len(rows))]
        else:
            zero = np.zeros(len(weight) // PAIR, np.int16)
            for row in range(len(rows)):
                found = []
                for place, column in enumerate(columns):
                    for channel in range(PAIR):
                        mine = weight[channel::2, row, place]
                        pairs.append(_pairs(zero, mine) if channel else _pairs(mine, zero))
                        number = len(pairs) - 1
                        found += [Product(channel * BLOCK + part, part + column, number) for part in range(BLOCK)]
                products.append(tuple(found))
            biases = bias.reshape(-1, PAIR)
        table = np.column_stack([biases, *(it.view(np.int32) for it in pairs)])
        return DepthwiseConv(source, rows, columns, self._append(table.view(np.float32)), tuple(products), len(pairs))

    def _column_products(self, weight: Shorts, columns: Sequence[int], pairs: list[Floats]) -> Iterator[Product]:
        """Yield the products of a row whose lanes hold two columns, and append their weights, those of each channel.

        A sum is of an even or of an odd column, so a tap is in the first half of a lane for one of them, and in the
        second for the other.
        """
        zero = np.zeros(len(weight), np.int16)
        for part in range(PAIR):
            halves: dict[int, list[Shorts]] = {}
            for place, column in enumerate(columns):
                vector, half = divmod(part + column, PAIR)
                halves.setdefault(vector, [zero, zero])[half] = weight[:, place]
            for vector, (low, high) in sorted(halves.items()):
                pairs.append(_pairs(low, high))
                yield Product(part, vector, len(pairs) - 1)

    def _in_pairs_of_rows(
        self, source: int, weight: Shorts, biases: Ints, rows: Sequence[int], columns: Sequence[int]
    ) -> DepthwiseConv:
        """Lower a convolution of pairs of rows, with weights for outputs in the first rows of pairs, and in the second.

        The rows of the result are the first of each pair, relative to the first of the output's own pair.
        """
        tables = []
        for before in range(PAIR):
            padded = np.pad(weight, ((0, 0), (before, PAIR - 1 - before), (0, 0)))
            pairs = [_pairs(padded[:, row], padded[:, row + 1]) for row in range(0, padded.shape[1], PAIR)]
            tables.append(np.column_stack([biases, *(it.view(np.int32) for it in pairs)]))
        pair_rows, count = rows[::PAIR], len(columns)
        products = tuple(
            tuple(
                Product(part, part + column, row * count + place)
                for place, column in enumerate(columns)
                for part in range(BLOCK)
            )
            for row in range(len(pair_rows))
        )
        weights = self._append(np.concatenate(tables).view(np.float32))
        return DepthwiseConv(source, tuple(pair_rows), tuple(columns), weights, products, len(pair_rows) * count)

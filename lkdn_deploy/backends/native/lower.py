"""Lowering: a stage as a signature, which determines its code, and one array of weights.

Stages of the same signature share their code, whatever their weights. Operands are numbered within the stage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lkdn_deploy.backends.native.ir import (
    BoundaryKind,
    ConvOp,
    DepthwiseOp,
    Elementwise,
    FactorsOp,
    Floats,
    NormOp,
    Op,
    Program,
    SelectOp,
)
from lkdn_deploy.backends.native.layout import BLOCK, LaneFormat, output_parts
from lkdn_deploy.backends.native.schedule import FusedOp, RowPass, Schedule, Stage
from lkdn_deploy.backends.native.winograd import Factors, MinimalConv, packed_weights, source_channels, tiles_at_once


@dataclass(frozen=True, slots=True)
class TapLoop:
    """A loop over input channels of a convolution, for the taps in one row of its window."""

    source: int
    """Operand that is read."""
    row: int
    """Row of the taps, relative to the output's."""
    start: int
    """First input channel."""
    count: int
    """Number of input channels."""
    columns: tuple[int, ...]
    """Columns of the taps, relative to the output's."""
    weights: int
    """Offset of (channels, columns, outputs of the group) from the group's weights."""


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Output channels of a convolution that are accumulated in registers together, and how often the code repeats."""

    first: int
    """First output channel."""
    count: int
    """Number of output channels."""
    repeats: int
    """Number of groups of ``count`` channels with the same code, this one included."""
    weights: int
    """Offset of the group's weights, the bias before all others."""
    length: int
    """Number of weights of one group."""
    loops: tuple[TapLoop, ...]


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution over channels."""

    groups: tuple[ChannelGroup, ...]
    first: tuple[int, int] | None = None
    """As in `ConvOp`."""

    @property
    def parts(self) -> Sequence[int]:
        """The vectors of a block that it computes."""
        return range(BLOCK) if self.first is None else self.first[1:]


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a vector and a weight, of those that a depthwise convolution adds up."""

    total: int
    """Number of the sum: of each channel of the plane, one for each vector of a block."""
    vector: int
    """Distance of the vector from the first of the block."""
    weight: int
    """Number of the weight among those of the plane."""


@dataclass(frozen=True, slots=True)
class DepthwiseConv:
    """A depthwise convolution. Rows and columns of its window are relative to the output's."""

    source: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    weights: int
    """Offset of (planes, biases + weights)."""
    products: tuple[tuple[Product, ...], ...]
    """The products of each row."""
    length: int
    """Number of weights of a plane, without its biases."""


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """A normalisation over channels; ``weights`` is the offset of (channels, 2), scale and shift."""

    source: int
    epsilon: float
    weights: int
    channels: int
    centred: bool = False
    """Whether the mean is zero already."""
    factor: int | None = None
    """Offset of (channels,), by which 16-bit integers are multiplied first."""


@dataclass(frozen=True, slots=True)
class Load:
    """Channels of an operand as they are, for the epilogue, from the channel ``first``."""

    source: int
    first: int = 0
    is_odd: bool = False
    """Whether the second channel of the last pair is to be 0, in fixed point."""


Producer = Conv | MinimalConv | Factors | DepthwiseConv | LayerNorm | Load


@dataclass(frozen=True, slots=True)
class EpilogueOp:
    """An elementwise operation on what a kernel has computed; its kind may also be rsub, sub with operands swapped."""

    kind: str
    source: int | None = None
    """Second operand."""
    weights: int | None = None
    """Offset of (channels,), the second operand where it is constant."""
    alpha: float = 0.0
    left: int = -1
    """First operand, as a number of what the kernel has computed: 0 for its producer, then the operations before this
    one; -1 is the last."""
    right: int | None = None
    """Second operand, likewise, where it is neither an operand of the stage nor constant."""
    fixed: "FixedStep | None" = None
    """The additions for fixed point."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A value whose lowest and highest numbers are recorded."""

    record: int
    """Number of its record among those of the stage."""
    low: bool
    high: bool


@dataclass(frozen=True, slots=True)
class FixedStep:
    """An elementwise operation in fixed point: of 16-bit integers, or in float32 of what may be such integers.

    Weights of 16 bits are pairs, one for each step of the kernel.
    """

    in_integers: bool
    """Whether it is computed in 16-bit integers."""
    to_integers: bool
    """Whether its result is."""
    factors: tuple[int | None, ...] = ()
    """Offset of the factors of each operand, (channels,), where they are not 1."""
    result_factor: int | None = None
    """Offset of factors of the result, (channels,)."""
    table: int | None = None
    """Offset of a table of three times 16 integers of 16 bits."""
    shared: bool = False
    """Whether the second operand has one channel for all."""
    watch: Watch | None = None


@dataclass(frozen=True, slots=True)
class Rescale:
    """The way from a sum of 32 bits to a number: a shift and saturation to 16 bits, or a float32 times a factor."""

    to_integers: bool
    weights: int
    """Offset of (channels,), the shifts as integers, or the factors."""


@dataclass(frozen=True, slots=True)
class FusedKernel:
    """A computation, the elementwise operations on its result, and the operand where that is stored."""

    producer: Producer
    epilogue: tuple[EpilogueOp, ...]
    result: int
    channels: int = 1
    """Channels that it computes at a time."""
    rescale: Rescale | None = None
    """The step that turns the sums of the producer into numbers, in fixed point."""
    to_integers: bool = False
    """Whether a producer's float32 numbers become 16-bit integers."""
    watch: Watch | None = None
    """The record of the producer's result."""

    @property
    def row_pass(self) -> RowPass:
        """Loop of the stage that computes it."""
        passes = {MinimalConv: RowPass.TILES, Factors: RowPass.TILES, DepthwiseConv: RowPass.CHANNELS}
        return passes.get(type(self.producer), RowPass.BLOCKS)


@dataclass(frozen=True, slots=True)
class Operand:
    """A value as a stage's code sees it."""

    channels: int
    halo_columns: int | None
    """Columns stored beside each row; ``None`` if it exists within a block only."""
    channel_major: bool
    """Whether its rows are stored channel by channel, not block by block."""
    boundary: BoundaryKind | None
    """Format in which it enters or leaves the compiled code, if it does."""
    lane_format: LaneFormat = LaneFormat.FLOAT
    distance: int = 0
    """Rows from one to the other in a lane of ``LaneFormat.ROWS``."""

    @property
    def planes(self) -> int:
        """Number of channels, or of pairs of them."""
        return self.channels // self.lane_format.channels


@dataclass(frozen=True, slots=True)
class StageSignature:
    """Everything that a stage's code depends on, apart from the processor."""

    operands: tuple[Operand, ...]
    kernels: tuple[FusedKernel, ...]
    shuffled: int | None
    """Operand that is the output image before its pixels are put in order, if the stage computes it."""
    pixel_order: tuple[tuple[tuple[int, ...], ...], ...]
    """The program's ``pixel_order``; empty without ``shuffled``."""
    fixed: bool = False
    """Whether the stage computes in fixed point."""
    records: int = 0
    """Number of values whose extremes are recorded."""


@dataclass(frozen=True, slots=True)
class LoweredStage:
    """A stage, ready for code generation: the program's value of each operand, and the weights of all kernels."""

    signature: StageSignature
    values: tuple[int, ...]
    weights: Floats
    watched: tuple[int, ...] = ()
    """The program's value of each record."""


def lower(stage: Stage, program: Program, plan: Schedule, max_outputs: int) -> LoweredStage:
    """Lower a stage.

    Args:
        stage: a stage of ``plan``.
        program: the program.
        plan: its schedule.
        max_outputs: number of output channels that a convolution may accumulate in registers at once.
    """
    return Lowering(program, plan, max_outputs).stage(stage)


@dataclass(frozen=True, slots=True)
class _Places:
    """The operands of an elementwise operation, in terms of `EpilogueOp`."""

    left: int
    source: int | None = None
    right: int | None = None
    other: int = -1
    """The program's value of ``source``."""
    swapped: bool = False
    """Whether that is the first."""


class Lowering:
    """The lowering of one stage; arguments as those of `lower`."""

    def __init__(self, program: Program, plan: Schedule, max_outputs: int) -> None:
        self._program, self._plan, self._max_outputs = program, plan, max_outputs
        self._operands: dict[int, int] = {}
        self._weights: list[Floats] = []
        self._parts, self._length, self._each = output_parts(max_outputs), 0, 1  # computed in multiples of ``_each``

    def stage(self, stage: Stage) -> LoweredStage:
        """Lower the stage."""
        kernels = tuple(self._kernel(op) for op in stage.ops)
        shuffled = self._operands.get(self._program.result)
        values = tuple(self._operands)
        operands = tuple(map(self._described, values))
        order = tuple(tuple(tuple(row) for row in plane) for plane in self._program.pixel_order.tolist())
        signature = StageSignature(operands, kernels, shuffled, order if shuffled is not None else ())
        weights = np.concatenate(self._weights) if self._weights else np.zeros(1, np.float32)
        return LoweredStage(signature, values, weights)

    def _described(self, value: int) -> Operand:
        plan, boundary = self._plan, self._program.boundaries.get(value)
        return Operand(
            self._program.channels[value],
            plan.halo_columns.get(value),
            value in plan.channel_major,
            boundary.kind if boundary and value not in plan.exported else None,
        )

    def _operand(self, value: int) -> int:
        return self._operands.setdefault(value, len(self._operands))

    def _append(self, weights: Floats) -> int:
        """Append weights to the stage's, and return their offset."""
        start = self._length
        self._weights.append(np.ascontiguousarray(weights, np.float32).reshape(-1))
        self._length += weights.size
        return start

    def _append_bias(self, bias: Floats) -> int:
        return self._append(bias)

    def _kernel(self, fused: FusedOp) -> FusedKernel:
        producer, first = self._producer(fused.op)
        epilogue, computed = [*first], [*[-1] * len(first), fused.op.output]
        for op in fused.epilogue:
            epilogue.append(self._epilogue_op(op, computed))
            computed.append(op.output)
        return FusedKernel(producer, tuple(epilogue), self._operand(fused.output))

    def _producer(self, op: Op) -> tuple[Producer, tuple[EpilogueOp, ...]]:
        if isinstance(op, ConvOp):
            return self._minimal_conv(op) if op.minimal else self._conv(op), ()
        source = self._operand(op.inputs[0])
        if isinstance(op, FactorsOp):
            return Factors(source), ()
        if isinstance(op, DepthwiseOp):
            rows, columns = self._window(op)
            flat = op.weight.reshape(len(op.weight), -1)
            products = tuple(
                tuple(
                    Product(part, part + column, row * len(columns) + place)
                    for place, column in enumerate(columns)
                    for part in range(BLOCK)
                )
                for row in range(len(rows))
            )
            weights = self._append(np.column_stack([op.bias, flat]))
            return DepthwiseConv(source, rows, columns, weights, products, flat.shape[1]), ()
        if isinstance(op, NormOp):
            weights = self._append(np.column_stack([op.scale, op.shift]))
            return LayerNorm(source, op.epsilon, weights, self._program.channels[op.inputs[0]]), ()
        if isinstance(op, SelectOp):
            return Load(source, op.first), ()
        return Load(source), (self._epilogue_op(op, [op.inputs[0]]),)

    def _window(self, op: ConvOp | DepthwiseOp) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the rows and the columns of the window of a convolution, relative to the output's."""
        rows, columns = (
            tuple((tap - size // 2) * step for tap in range(size))
            for size, step in zip(op.weight.shape[-2:], op.dilation, strict=True)
        )
        return rows, columns

    def _epilogue_op(self, op: Elementwise, computed: list[int]) -> EpilogueOp:
        """Lower an operation on one or two values, of which at least one is among those the kernel has in registers."""
        weights = None if op.constant is None else self._append(op.constant)
        places = self._places(op.inputs, computed)
        kind = "rsub" if places.swapped and op.kind == "sub" else op.kind
        return EpilogueOp(kind, places.source, weights, op.alpha, places.left, places.right)

    def _places(self, inputs: tuple[int, ...], computed: list[int]) -> "_Places":
        """Return where the operands of such an operation are."""

        def place(value: int) -> int:
            found = computed.index(value)
            return -1 if found == len(computed) - 1 else found

        first, *others = inputs
        if not others:
            return _Places(place(first))
        (second,) = others
        if first in computed and second in computed:
            return _Places(place(first), right=computed.index(second))
        if first in computed:
            return _Places(place(first), self._operand(second), other=second)
        return _Places(place(second), self._operand(first), other=first, swapped=True)

    def _conv(self, op: ConvOp) -> Conv:
        groups: list[ChannelGroup] = []
        for first, count in self._channel_ranges(op):
            start = self._append_bias(op.bias[first : first + count])
            loops = tuple(self._tap_loops(op, first, count, start))
            length = self._length - start
            before = groups[-1] if groups else None
            if before and (before.count, before.length, before.loops) == (count, length, loops):
                groups[-1] = replace(before, repeats=before.repeats + 1)
            else:
                groups.append(ChannelGroup(first, count, 1, start, length, loops))
        return Conv(tuple(groups), op.first)

    def _minimal_conv(self, op: ConvOp) -> MinimalConv:
        vectors = BLOCK * self._max_outputs
        tiles = tiles_at_once(vectors)
        bounds = self._parts(len(op.weight), vectors // tiles)
        groups = tuple((low, high - low) for low, high in pairwise(bounds))
        sources = tuple((self._operand(it), source_channels(self._program.channels[it])) for it in op.inputs)
        bias, weights = self._append(op.bias), self._append(packed_weights(op, groups))
        rows = tuple(range(-1, 3)) if op.paired else self._window(op)[0]
        return MinimalConv(sources, rows, bias, weights, groups, tiles, op.paired)

    def _channel_ranges(self, op: ConvOp) -> Iterator[tuple[int, int]]:
        """Yield first and count of output channels, none across two blocks."""
        each = len(op.weight) // op.blocks[0] // self._each
        most = self._max_outputs if op.first is None else BLOCK * self._max_outputs  # of one vector each
        bounds = [self._each * it for it in self._parts(each, most // self._each)]
        for block in range(op.blocks[0]):
            for low, high in pairwise(bounds):
                yield block * each * self._each + low, high - low

    def _tap_loops(self, op: ConvOp, first: int, count: int, origin: int) -> Iterator[TapLoop]:
        """Yield the loops of ``count`` output channels, without taps whose weights are all zero."""
        weight = op.weight[first : first + count]
        rows, columns = weight.shape[2:]
        each = weight.shape[1] // op.blocks[1]
        start = 0
        for value in op.inputs:
            end = start + self._program.channels[value]
            edges = sorted({start, end, *(it for it in range(0, weight.shape[1], each) if start < it < end)})
            for low, high in pairwise(edges):
                for i in range(rows):
                    row = weight[:, low:high, i]
                    used = [j for j in range(columns) if row[..., j].any()]
                    if used:
                        yield TapLoop(
                            self._operand(value),
                            (i - rows // 2) * op.dilation[0],
                            low - start,
                            high - low,
                            tuple((j - columns // 2) * op.dilation[1] for j in used),
                            self._append(row[..., used].transpose(1, 2, 0)) - origin,
                        )
            start = end

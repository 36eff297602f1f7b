"""The bounds on which generated code relies: of a program, always; of lowered stages and of memory, in debug mode.

Generated code checks nothing. A program from a checked graph keeps these bounds by construction; what is written here
once more, from the side of the code that relies on it, is to find errors in the compiler itself. The environment
variable ``LKDN_NATIVE_DEBUG`` turns debug mode on, as the fuzz tests do.
"""

import os

import numpy as np

from lkdn_deploy.backends.native.codegen.activations import BINARY, UNARY
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
    require,
)
from lkdn_deploy.backends.native.layout import LaneFormat
from lkdn_deploy.backends.native.lower import Conv, DepthwiseConv, LayerNorm, Load, LoweredStage
from lkdn_deploy.backends.native.schedule import Segment
from lkdn_deploy.backends.native.winograd import POSITIONS, Factors, MinimalConv, factor_channels

DEBUG = bool(os.environ.get("LKDN_NATIVE_DEBUG"))

MAX_INSTRUCTIONS = 1 << 15
"""Limit of a network's instructions, as ``_instructions`` counts them. LKDN has 3,000, which compile in a second."""

_BLOCKS_IN_FIXED_POINT = 8
"""Blocks for which a depthwise convolution in fixed point has code."""


def check_program(program: Program) -> None:
    """Check that operations read what exists, and that their weights fit the channels of their values.

    Raises:
        UnsupportedError: if not.
    """
    known = set(program.imported)
    require(0 in known and program.channels[0] == 3, "a program without an image")
    require(min(program.channels) >= 1, "a map without channels")
    for op in program.ops:
        require(known.issuperset(op.inputs) and op.output not in known, "an operation out of order")
        known.add(op.output)
        require(_weights_fit(op, program.channels), f"weights of a {type(op).__name__} that do not fit their operands")
    order = program.pixel_order
    require(order.ndim == 3 and order.shape[1] == order.shape[2], "an image that is not square in its sub-pixels")
    inside = order.min() >= 0 and order.max() < program.channels[program.result]
    require(program.result in known and bool(inside), "an image of channels that are not computed")


def _weights_fit(op: Op, channels: tuple[int, ...]) -> bool:
    before, after = [channels[value] for value in op.inputs], channels[op.output]
    match op:
        case ConvOp():
            outs, ins, *window = op.weight.shape
            blocks = outs % op.blocks[0] == 0 == ins % op.blocks[1]
            return blocks and (outs, ins) == (after, sum(before)) and _window_fits(op, window)
        case DepthwiseOp():
            return before == [after] == [len(op.weight)] and _window_fits(op, op.weight.shape[1:])
        case NormOp():
            return before == [after] and op.scale.shape == op.shift.shape == (after,)
        case Elementwise():
            if op.kind in (*UNARY, "leaky_relu"):
                return before == [after] and op.constant is None
            operands = 1 if op.constant is not None else 2
            fits = op.constant is None or op.constant.shape == (after,)
            alike = before[0] == after and all(it in (1, after) for it in before[1:])
            return op.kind in BINARY and alike and len(before) == operands and fits
        case FactorsOp():
            return [factor_channels(it) for it in before] == [after]
        case SelectOp():
            return len(before) == 1 and 0 <= op.first <= op.first + after <= before[0]


def _window_fits(op: ConvOp | DepthwiseOp, window: tuple[int, ...] | list[int]) -> bool:
    odd = len(window) == 2 and all(size % 2 for size in window)
    return odd and min(op.dilation) >= 1 and op.bias.shape == (len(op.weight),)


def check_code_size(stages: list[LoweredStage]) -> None:
    """Check that the code of stages of different signatures is not too much to compile.

    Raises:
        UnsupportedError: if it is.
    """
    size = sum(map(_instructions, {it.signature: it for it in stages}.values()))
    require(size <= MAX_INSTRUCTIONS, f"code of {size} instructions, more than {MAX_INSTRUCTIONS}")


def _instructions(stage: LoweredStage) -> int:
    """Return about how many vector instructions a stage's code has. Loops over channels are not unrolled."""
    total = 0
    for kernel in stage.signature.kernels:
        total += 32 * (1 + len(kernel.epilogue))
        match kernel.producer:
            case Conv() as conv:
                loops = [(loop, group.count) for group in conv.groups for loop in group.loops]
                total += sum(2 * len(loop.columns) * (count + 1) for loop, count in loops)
            case MinimalConv() as conv:
                counts = {count for _, count in conv.groups}
                each = len(conv.sources) * len(conv.rows) * (conv.tiles + 1)
                total += sum(conv.tiles * each * (count + 1) for count in sorted(counts))
            case DepthwiseConv() as conv:
                blocks = _BLOCKS_IN_FIXED_POINT * kernel.channels if stage.signature.fixed else 1
                total += 4 * len(conv.rows) * len(conv.columns) * blocks
    return total + sum(8 * (it.halo_columns or 0) for it in stage.signature.operands)


def _assert(condition: bool) -> None:
    if not condition:
        raise AssertionError


def check_stage(stage: LoweredStage) -> None:
    """Assert that a stage reads weights, channels, rows and columns that there are."""
    operands, length = stage.signature.operands, stage.weights.size

    def reads(source: int, low: int, count: int, rows: tuple[int, ...] = (0,), columns: tuple[int, ...] = (0,)) -> None:
        operand = operands[source]
        _assert(0 <= low < low + count <= operand.channels)
        _assert(max(map(abs, columns)) <= (operand.halo_columns or 0))
        _assert(operand.halo_columns is not None or set(rows) == {0})

    for kernel in stage.signature.kernels:
        channels = operands[kernel.result].channels
        match kernel.producer:
            case Conv() as conv:
                done = 0
                for group in conv.groups:
                    _assert(group.first == done)
                    done += group.count * group.repeats
                    _assert(0 <= group.weights <= group.weights + group.repeats * group.length <= length)
                    _assert(group.count <= group.length)
                    for loop in group.loops:
                        reads(loop.source, loop.start, loop.count, (loop.row,), loop.columns)
                        end = loop.weights + loop.count * len(loop.columns) * group.count
                        _assert(group.count <= loop.weights < end <= group.length)
                _assert(done == channels)
            case MinimalConv() as conv:
                for source, count in conv.sources:
                    _assert(factor_channels(count) == operands[source].channels)
                    reads(source, 0, operands[source].channels, conv.rows)
                taps = len(conv.rows) * sum(count for _, count in conv.sources)
                stops = [first + count for first, count in conv.groups]
                _assert([first for first, _ in conv.groups] == [0, *stops[:-1]] and stops[-1] == channels)
                _assert(conv.weights + POSITIONS * taps * channels <= length and conv.bias + channels <= length)
            case Factors(source):
                _assert(channels == factor_channels(operands[source].channels))
                reads(source, 0, operands[source].channels, columns=(-1, 1))
            case DepthwiseConv() as conv:
                reads(conv.source, 0, channels, conv.rows, conv.columns)
                _assert(operands[conv.source].channels == channels)
                operand = operands[conv.source]
                tables = 2 if operand.lane_format is LaneFormat.ROWS else 1
                each = operand.lane_format.channels + conv.length
                _assert(conv.weights + tables * operand.planes * each <= length)
                _assert(all(it.weight < conv.length for row in conv.products for it in row))
                _assert(operands[conv.source].halo_columns is not None)
            case LayerNorm() as norm:
                _assert(norm.channels <= operands[norm.source].channels == channels)
                _assert(norm.weights + 2 * channels <= length)
            case Load() as load:
                image = operands[load.source].boundary is BoundaryKind.NCHW  # which has no channels to be even
                there = operands[load.source].channels if image else channels - load.is_odd
                reads(load.source, load.first, min(channels, there))
        for place, op in enumerate(kernel.epilogue):
            _assert(op.source is None or operands[op.source].channels in (1, channels))
            _assert(-1 <= op.left <= place and (op.right is None or 0 <= op.right <= place))
            weights = channels // 2 if op.fixed and op.fixed.in_integers else channels
            _assert(op.weights is None or op.weights + weights <= length)
    if stage.signature.shuffled is not None:
        channels = operands[stage.signature.shuffled].channels
        _assert(all(0 <= it < channels for plane in stage.signature.pixel_order for row in plane for it in row))


def check_segment(segment: Segment) -> None:
    """Assert that line buffers still hold, and hold already, each row that a stage reads."""
    made = {op.output: (stage.row_delay, place) for place, stage in enumerate(segment.stages) for op in stage.ops}
    for place, stage in enumerate(segment.stages):
        ops = [it for fused in stage.ops for it in (fused.op, *fused.epilogue)]
        for value, radius in ((value, op.radius) for op in ops for value in op.inputs if value in made):
            delay, before = made[value]
            behind = stage.row_delay - delay
            _assert(behind > radius[0] or (behind >= radius[0] and before <= place))
            _assert(value not in segment.buffer_rows or segment.buffer_rows[value] >= behind + radius[0] + 1)
    for stage in segment.stages:
        for op in (it for it in stage.ops if it.paired):
            _assert(stage.halo_rows % 2 == 0 and segment.buffer_rows.get(op.output, 2) >= 2)
            inside = (it for it in op.inputs if it in made)
            _assert(all(made[it][0] <= stage.row_delay - (2 if it in op.op.inputs else 1) for it in inside))


def check_rows(entry: tuple[int, int, int], floats: int, parts: list[Floats]) -> None:
    """Assert that rows of an operand, of so many floats each, lie in one part of the memory of an executor.

    Args:
        entry: address of the first row, number of rows, and bytes from one row to the next.
        floats: floats of a row that are used.
        parts: the memory of an executor.
    """
    start, count, size = entry
    inside = (it.ctypes.data <= start < start + count * size <= it.ctypes.data + it.nbytes for it in parts)
    _assert(any(inside) and size >= 4 * floats)


_CANARY = np.uint32(0x7FC0DEAD)
"""A NaN that no computation gives."""


def gap() -> int:
    """Return the number of floats between the parts of an executor's memory."""
    return 256 if DEBUG else 0


def fill_gaps(memory: Floats, parts: list[Floats]) -> None:
    """Fill what lies between parts of the memory with canaries, and the parts with NaN."""
    memory.view(np.uint32)[:] = _CANARY
    for part in parts:
        part[:] = np.nan


def check_gaps(memory: Floats, parts: list[Floats]) -> None:
    """Assert that nothing was written between parts of the memory."""
    inside = np.zeros(memory.size, bool)
    for part in parts:
        start = (part.ctypes.data - memory.ctypes.data) // 4
        inside[start : start + part.size] = True
    _assert((memory.view(np.uint32)[~inside] == _CANARY).all())

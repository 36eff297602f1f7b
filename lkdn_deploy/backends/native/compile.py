"""Compilation: a program is scheduled, its stages are lowered, and their code is generated for one processor."""

from collections.abc import Mapping
from functools import partial

from llvmlite import ir

from lkdn_deploy.backends.native import bounds, layout, winograd
from lkdn_deploy.backends.native.codegen import (
    activations,
    arithmetic,
    buffers,
    depthwise,
    fixed_steps,
    lane_access,
    minimal,
    output,
    row_pairs,
    stage,
    threads,
)
from lkdn_deploy.backends.native.fallback import Fallback
from lkdn_deploy.backends.native.fixed import fixed_ir
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram
from lkdn_deploy.backends.native.ir import BoundaryKind, Program
from lkdn_deploy.backends.native.layout import (
    ALLOCATION_OVERHEAD,
    LINE,
    LaneFormat,
    RowLayout,
    aligned_copy,
    whole_lines,
)
from lkdn_deploy.backends.native.lower import LoweredStage, StageSignature, lower
from lkdn_deploy.backends.native.lower_fixed import even, lower_fixed
from lkdn_deploy.backends.native.pairing import plan_pairs
from lkdn_deploy.backends.native.schedule import Schedule, schedule
from lkdn_deploy.jit import builder, sixteen
from lkdn_deploy.jit.compiler import Processor, library
from lkdn_deploy.jit.sixteen import PairUnit, most_outputs, pair_unit

_SOURCES = [
    str(it.__file__)
    for it in (
        activations, arithmetic, buffers, builder, depthwise, fixed_ir, fixed_steps, lane_access, layout, minimal,
        output, row_pairs, sixteen, stage, threads, winograd,
    )
]  # fmt: skip
"""Modules that determine the generated code, apart from the signatures."""


class CompiledNetwork:
    """A program as machine code, with its weights.

    Attributes:
        program: the program as it was lowered.
        plan: its schedule.
        row_unit: number of vectors of which rows have a multiple.
        row_step: number of rows that are computed together, from the first on.
        window_step: divisor of the row and column at which windows must begin to give the whole image's values.
        window_halo: columns beside a window that decide its values' bits, if more than the receptive radius.
        segments: lowered stages of each segment.
        weights: weights of each of these stages, aligned to cache lines.
        stage_addresses: addresses of the stages' functions, by signature.
        float_output: address of the function that writes rows of the output image; ``uint8_output`` likewise.
        lead: runs a segment, as ``codegen.threads`` describes; ``follow`` likewise, and ``lead_all`` in fixed point,
            where it is not None.

    Raises:
        UnsupportedError: if weights do not fit what they are applied to, or there would be too much code.
    """

    def __init__(self, program: Program, target: Processor, fixed: FixedProgram | None = None) -> None:
        self.lanes, self.fixed = target.lanes, fixed
        self._memory: dict[int, tuple[int, int, int]] = {}
        self.program, self.plan, self.segments = lower_program(program, target, fixed)
        self._formats = lane_formats(self.segments)
        self.scale = int(program.pixel_order.shape[1])
        self.row_unit = winograd.row_unit(self.program)
        self.row_step = winograd.row_step(self.program)
        self.window_step = winograd.window_step(self.program)
        self.window_halo = winograd.window_halo(self.program)
        signatures = distinct_signatures(self.segments)
        self._library = library("native", partial(emit_network, signatures, target), target, _SOURCES, signatures)
        self.lead = self._library.function("lead", "piipipii")
        self.follow = self._library.function("follow", "ppip")
        self.lead_all = self._library.function("lead_all", "ppiip") if fixed else None
        self.stage_addresses = {it: self._library.address(stage_name(at)) for at, it in enumerate(signatures)}
        self.float_output, self.uint8_output = (self._library.address(it) for it in output.NAMES)
        self.fallback = Fallback(program.subgraphs)
        self.weights = [[aligned_copy(it.weights) for it in stages] for stages in self.segments]

    def row_floats(self, rows: RowLayout) -> dict[int, int]:
        """Return the size of a row of each value that is stored in rows."""
        plan, found = self.plan, {}
        for value, halo in plan.halo_columns.items():
            channels = self.program.channels[value]
            lane_format = self._formats[value]
            if self.fixed:
                channels = even(channels)
            found[value] = rows.row_floats(
                channels, halo, channel_major=value in plan.channel_major, lane_format=lane_format
            )
        return found

    def band_floats(self, rows: RowLayout, row_floats: Mapping[int, int]) -> tuple[int, int]:
        """Return the sizes of a thread's line buffers, and of its lines of the output image."""
        buffers = (sum(count * row_floats[it] for it, count in part.buffer_rows.items()) for part in self.plan.segments)
        return whole_lines(max(buffers)), 3 * self.scale**2 * rows.columns + self.lanes  # beyond the last column, too

    def memory(self, width: int) -> tuple[int, int, int]:
        """Return the floats that a run on an image of this width takes: at least, for each thread, and for each row."""
        if width not in self._memory:
            rows = RowLayout(1, width, self.lanes, self.row_unit)
            plan, row_floats, slots = self.plan, self.row_floats(rows), dict[int, int]()
            for value, slot in plan.slots().items():
                slots[slot] = max(slots.get(slot, 0), row_floats[value])
            by_depth: dict[int, int] = {}
            constant = ALLOCATION_OVERHEAD + max(row_floats.values(), default=1)
            for value, boundary in self.program.boundaries.items():
                depth, channels = self.program.depths[value], self.program.channels[value]
                few = {BoundaryKind.PER_CHANNEL: 0, BoundaryKind.ROW_SUMS: 1, BoundaryKind.EVERY_SECOND: -(-width // 2)}
                each = few.get(boundary.kind, width)
                floats = row_floats[value] if value in plan.exported else channels * each
                by_depth[depth] = by_depth.get(depth, 0) + floats
                constant += channels + rows.columns + LINE
            halves = (max((it for depth, it in by_depth.items() if depth % 2 == odd), default=0) for odd in range(2))
            row = sum(slots.values()) + sum(halves) + max(by_depth.values())  # what another engine has of them
            band = sum(self.band_floats(rows, row_floats))
            self._memory[width] = constant, band, row
        return self._memory[width]


def lower_program(
    program: Program, target: Processor, fixed: FixedProgram | None = None
) -> tuple[Program, Schedule, list[list[LoweredStage]]]:
    """Return a program as it is lowered, its schedule, and the lowered stages of each of its segments.

    Args:
        program: the program.
        target: the processor.
        fixed: its integers, if it is to be computed in fixed point.

    Raises:
        UnsupportedError: if weights do not fit what they are applied to, or there would be too much code.
    """
    bounds.check_program(program)
    if fixed is None:
        program = winograd.with_minimal_filtering(program)
    plan = schedule(program)
    if bounds.DEBUG:
        for segment in plan.segments:
            bounds.check_segment(segment)
    lower_stage = partial(lower, program=program, plan=plan, max_outputs=target.max_outputs)
    if fixed is not None:
        outputs = most_outputs(pair_unit(target.features, target.lanes), target.max_outputs)
        paired = plan_pairs(fixed, plan)
        plan, lower_stage = paired.plan, partial(lower_fixed, paired=paired, max_outputs=outputs)
    segments = [[lower_stage(it) for it in part.stages] for part in plan.segments]
    bounds.check_code_size([it for stages in segments for it in stages])
    if bounds.DEBUG:
        for it in (it for stages in segments for it in stages):
            bounds.check_stage(it)
    return program, plan, segments


def lane_formats(segments: list[list[LoweredStage]]) -> dict[int, LaneFormat]:
    """Return the content of the lanes of each value of lowered stages."""
    stages = (it for segment in segments for it in segment)
    return {
        value: it.lane_format
        for stage in stages
        for value, it in zip(stage.values, stage.signature.operands, strict=True)
    }


def fixed_obstacle(target: Processor) -> str | None:
    """Return a noun phrase for the reason why a processor has no code for fixed point, or None if it has."""
    if pair_unit(target.features, target.lanes) is not PairUnit.GENERIC:
        return None
    return "fixed point on this processor, which lacks SSSE3, AVX2, AVX-512 BW or SIMD of WebAssembly"


def distinct_signatures(segments: list[list[LoweredStage]]) -> tuple[StageSignature, ...]:
    """Return the signatures of lowered stages, each once: those for which there is code."""
    return tuple(dict.fromkeys(it.signature for stages in segments for it in stages))


def stage_name(number: int) -> str:
    """Return the name of the function of a signature, by its place among ``distinct_signatures``."""
    return f"stage{number}"


def emit_network(signatures: tuple[StageSignature, ...], target: Processor, module: ir.Module) -> None:
    """Add the functions of a network to a module: its stages, the loops that run them, and those for its output."""
    unit = pair_unit(target.features, target.lanes)
    for number, signature in enumerate(signatures):
        stage.emit_stage(module, stage_name(number), signature, target.lanes, unit)
    fixed = any(it.fixed for it in signatures)
    threads.emit_bands(module, at_once=fixed)
    output.emit_output(module, target.lanes, fixed=fixed)

"""The choice of pairs: what the lanes of each value of a fixed-point program hold; and the schedule that suits it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram, FloatElementwise, Storage
from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Elementwise, Program, require
from lkdn_deploy.backends.native.layout import LaneFormat
from lkdn_deploy.backends.native.schedule import FusedOp, RowPass, Schedule

PAIR = 2


@dataclass(frozen=True, slots=True)
class PairedPlan:
    """A fixed-point program with its schedule, as it suits pairs."""

    fixed: FixedProgram
    plan: Schedule
    lane_formats: Mapping[int, LaneFormat]
    """Content of the lanes of each value."""
    distances: Mapping[int, int]
    """Rows from one to the other in a lane, of values whose lanes hold pairs of rows."""


def plan_pairs(fixed: FixedProgram, plan: Schedule) -> PairedPlan:
    """Decide what pairs each value is stored in, and adapt the schedule to that.

    Pairs of columns serve depthwise convolutions, and pairs of rows those that are dilated. What anything else reads,
    or is computed of other values than a convolution's sums, has pairs of channels.

    Raises:
        UnsupportedError: if another engine computes a part of the program.
    """
    require(not fixed.program.subgraphs, "fixed point where ONNX Runtime computes a part")
    plan = _with_late_sums(fixed, _with_longer_epilogues(fixed.program, plan))
    fused = [op for segment in plan.segments for op in segment.ops]
    elsewhere = {value for op in fused for it in op.epilogue for value in it.inputs if value in op.inputs}
    elsewhere |= {value for op in fused if not isinstance(op.op, DepthwiseOp) for value in op.op.inputs}
    formats = dict.fromkeys(range(len(fixed.formats)), LaneFormat.CHANNELS)
    steps: dict[int, set[int]] = {}
    """Distances between rows of taps, of the convolutions that read a value; 1 where these do not fit pairs."""
    for conv in fixed.program.ops:
        if isinstance(conv, DepthwiseOp):
            rows = conv.weight.shape[1]
            fits = rows > 1 and rows // PAIR % PAIR == 0
            steps.setdefault(conv.inputs[0], set()).add(conv.dilation[0] if fits else 1)
    distances = {value: max(them) for value, them in steps.items() if len(them) == 1 and max(them) > 1}
    for op in fused:
        of_sums = isinstance(op.op, ConvOp | DepthwiseOp) and op.inputs == tuple(dict.fromkeys(op.op.inputs))
        in_columns = isinstance(op.op, ConvOp) or formats[op.inputs[0]] is not LaneFormat.CHANNELS
        integers = not any(isinstance(fixed.ops[it.output], FloatElementwise) for it in op.epilogue)
        if of_sums and in_columns and integers and op.output in plan.channel_major - elsewhere:
            formats[op.output] = LaneFormat.ROWS if op.output in distances else LaneFormat.COLUMNS
    for value, it in enumerate(fixed.formats):
        if it.storage is Storage.FLOAT32:
            formats[value] = LaneFormat.FLOAT
    distances = {it: distances[it] for it in distances if formats[it] is LaneFormat.ROWS}
    segments = []
    for segment in plan.segments:
        buffers = segment.buffer_rows
        paired = {it: _pairs_of_rows(buffers[it], distances[it]) for it in buffers if it in distances}
        segments.append(replace(segment, buffer_rows=buffers | paired))
    return PairedPlan(fixed, replace(plan, segments=tuple(segments)), formats, distances)


def _pairs_of_rows(rows: int, distance: int) -> int:
    """Return how many pairs of rows a line buffer stores to have as many adjacent rows at any time."""
    return distance * (-(-(rows - 1) // (PAIR * distance)) + 1)


def _with_longer_epilogues(program: Program, plan: Schedule) -> Schedule:
    """Fuse an elementwise operation with a whole map into the depthwise convolution before it.

    In float32, the convolution computes single channels, for each of which it would read few numbers of many cache
    lines of the map. In fixed point it computes two channels at once, and reads whole lines, which it can prefetch. The
    sums need no rows of float32 then, which would be twice as large as any other.
    """
    uses = Counter(value for op in program.ops for value in op.inputs)
    kept = plan.materialized | {program.result, *program.boundaries}
    segments, halo_columns, channel_major = [], dict(plan.halo_columns), set(plan.channel_major)
    for segment in plan.segments:
        made = {op.output for op in segment.ops}
        buffers = dict(segment.buffer_rows)
        stages = []
        for stage in segment.stages:
            ops = [*stage.ops]
            for first in stage.ops:
                second = next((it for it in ops if first.output in it.op.inputs), None)
                if second is None or not isinstance(second.op, Elementwise):
                    continue
                if not _joins(program, first, second, plan.materialized - made):
                    continue
                if uses[first.output] > 1 or {first.output, second.output} & kept:
                    continue
                ops[ops.index(first)] = FusedOp(first.op, (*first.epilogue, second.op, *second.epilogue))
                ops.remove(second)
                rows = buffers.pop(first.output)
                buffers.setdefault(second.output, rows)
                halo_columns.setdefault(second.output, halo_columns.pop(first.output))
                channel_major = channel_major - {first.output} | {second.output}
            stages.append(replace(stage, ops=tuple(ops)))
        segments.append(replace(segment, stages=tuple(stages), buffer_rows=buffers))
    return replace(plan, segments=tuple(segments), halo_columns=halo_columns, channel_major=frozenset(channel_major))


def _joins(program: Program, first: FusedOp, second: FusedOp, maps: frozenset[int]) -> bool:
    """Return whether an operation, and its epilogue, can be applied to what a depthwise convolution computes."""
    others = {*second.inputs} - {first.output}
    alike = len({program.channels[it] for it in (first.output, second.output, *others)}) == 1
    return isinstance(first.op, DepthwiseOp) and alike and others <= maps


def _with_late_sums(fixed: FixedProgram, plan: Schedule) -> Schedule:
    """Compute sums in float32 that depend on whole maps alone where they are used, instead of rows ahead.

    Such are parts of a sum over many maps. Their rows would fill the caches until then.
    """
    segments, halo_columns = [], dict(plan.halo_columns)
    for segment in plan.segments:
        made = {op.output: (it.row_delay, op) for it in segment.stages for op in it.ops}
        known = plan.materialized - {*made}
        alone: list[int] = []
        for value, (_, op) in made.items():
            if op.row_pass is RowPass.BLOCKS and op.op.radius == (0, 0) and {*op.inputs} <= known | {*alone}:
                alone.append(value)
        delays = {value: delay for value, (delay, _) in made.items()}
        for value in reversed(alone):
            readers = [it for _, it in made.values() if value in it.inputs]
            after = {delays[it.output] for it in readers}
            in_blocks = all(it.row_pass is RowPass.BLOCKS and it.op.radius == (0, 0) for it in readers)
            in_float = fixed.formats[value].storage is Storage.FLOAT32
            if len(after) == 1 and in_blocks and in_float and value not in plan.materialized:
                delays[value] = after.pop()
        late = [value for value in alone if delays[value] > made[value][0]]
        stages = []
        for stage in segment.stages:
            ops = [it for it in stage.ops if it.output not in late]
            ahead = [made[it][1] for it in late if delays[it] == stage.row_delay]
            depthwise = [it for it in ops if it.row_pass is not RowPass.BLOCKS]
            others = [it for it in ops if it.row_pass is RowPass.BLOCKS]
            stages.append(replace(stage, ops=(*depthwise, *ahead, *others)))
        buffers = {value: rows for value, rows in segment.buffer_rows.items() if value not in late}
        halo_columns = {value: halo for value, halo in halo_columns.items() if value not in late}
        segments.append(replace(segment, stages=tuple(it for it in stages if it.ops), buffer_rows=buffers))
    return replace(plan, segments=tuple(segments), halo_columns=halo_columns)

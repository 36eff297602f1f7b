"""Scheduling: the order in which rows of a program's values are computed, and how many rows of each are stored.

A program runs as segments, each a pass over the image row by row. Within a segment an operation lags behind the first
by as many rows as its inputs must be ahead (its row delay). Operations of one delay form a stage, which computes a row
block by block, so that what only the stage uses stays in the first-level cache. Values that later stages use are kept
in line buffers of as many rows as those stages reach back.

Segments end where few channels are live and materialize these as whole maps. Several threads can then each compute a
band of rows, and recompute only as many rows of their neighbours as the segment's radius. Segments end at barriers too:
all operations of one depth come before those of the next.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import dropwhile, groupby

from lkdn_deploy.backends.native.ir import BoundaryKind, ConvOp, DepthwiseOp, Elementwise, FactorsOp, Op, Program

MIN_RADIUS = 4
"""Radius in rows before a segment may end. Shorter ones would write and read more whole maps, longer ones recompute
more rows between bands."""


class RowPass(Enum):
    """The way in which a stage computes an operation for a row."""

    CHANNELS = "channels"
    """Channel by channel."""
    BLOCKS = "blocks"
    """Block by block, together with adjacent operations of this kind."""
    TILES = "tiles"
    """By tiles of blocks, several of which share the weights that are loaded."""


@dataclass(frozen=True, slots=True)
class FusedOp:
    """An operation, and the elementwise ones that are applied to its result before it is stored (its epilogue)."""

    op: Op
    epilogue: tuple[Elementwise, ...]

    @property
    def paired(self) -> bool:
        """Whether it computes this row and the next at every second row."""
        return _is_paired(self.op)

    @property
    def output(self) -> int:
        """Value that is stored."""
        return self.epilogue[-1].output if self.epilogue else self.op.output

    @property
    def row_pass(self) -> RowPass:
        """Loop of the stage that computes it."""
        if isinstance(self.op, FactorsOp) or (isinstance(self.op, ConvOp) and self.op.minimal):
            return RowPass.TILES
        return RowPass.CHANNELS if isinstance(self.op, DepthwiseOp) else RowPass.BLOCKS

    @property
    def inputs(self) -> tuple[int, ...]:
        """Values that are read."""
        internal = {self.op.output, *(it.output for it in self.epilogue)}
        found = [*self.op.inputs, *(value for it in self.epilogue for value in it.inputs)]
        return tuple(dict.fromkeys(value for value in found if value not in internal))


@dataclass(frozen=True, slots=True)
class Stage:
    """Operations that are computed for one row, in order of execution for each of its blocks."""

    row_delay: int
    """Rows behind the first stage of the segment."""
    ops: tuple[FusedOp, ...]
    halo_rows: int
    """Rows outside a band, to each side, that must be computed for the rest of the segment."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Stages that pass over the image together, in order of execution for each row."""

    depth: int
    """Number of barriers before it."""
    stages: tuple[Stage, ...]
    buffer_rows: dict[int, int]
    """Rows of the line buffer of each value that only this segment uses."""
    output_halo: int | None
    """Rows to each side of the requested part of the result that must be computed here; ``None``: all."""

    @property
    def ops(self) -> Iterator[FusedOp]:
        """Operations of all stages."""
        return (op for stage in self.stages for op in stage.ops)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The segments of a program, in order of execution."""

    segments: tuple[Segment, ...]
    halo_columns: dict[int, int]
    """Columns stored beside each row, by value, of each that is stored at all."""
    materialized: frozenset[int]
    """Values of which all rows are stored."""
    channel_major: frozenset[int]
    """Values in line buffers stored channel by channel, since depthwise convolutions use them."""
    exported: frozenset[int] = frozenset()
    """Materialized values that leave the compiled code, which need memory of their own."""

    def slots(self) -> dict[int, int]:
        """Return a memory slot for each materialized value; values that are not live at the same time share one."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for number, segment in enumerate(self.segments):
            for op in segment.ops:
                for value in (self.materialized - self.exported) & {op.output, *op.inputs}:
                    first.setdefault(value, number)
                    last[value] = number
        slots: dict[int, int] = {}
        free: dict[int, list[int]] = {}
        for number in range(len(self.segments)):
            for value in (value for value, segment in first.items() if segment == number):
                reusable = free.get(self.halo_columns[value])
                slots[value] = reusable.pop() if reusable else len(set(slots.values()))
            for value in (value for value, segment in last.items() if segment == number):
                free.setdefault(self.halo_columns[value], []).append(slots[value])
        return slots


def schedule(program: Program) -> Schedule:
    """Cut a program into segments, and each of these into stages."""
    parts: list[tuple[int, list[Op]]] = []
    for depth, ops in groupby(program.ops, lambda op: program.depths[op.output]):
        parts += [(depth, part) for part in _cut(program, list(ops))]
    exported = frozenset(value for value, it in program.boundaries.items() if it.kind is BoundaryKind.ROWS)
    materialized = set(exported)
    for place, (_, part) in enumerate(parts):
        later = {value for _, after in parts[place + 1 :] for op in after for value in op.inputs}
        materialized |= later & {op.output for op in part}
    staged = [(depth, *_stages(program, part, materialized)) for depth, part in parts]
    halos = _output_halos(program, [stages for _, stages, _ in staged])
    segments = tuple(Segment(*it, halo) for it, halo in zip(staged, halos, strict=True))
    halo_columns = dict.fromkeys(materialized, 0) | {value: 0 for it in segments for value in it.buffer_rows}
    for op in program.ops:
        for value in op.inputs:
            if value in halo_columns:
                halo_columns[value] = max(halo_columns[value], op.radius[1])
    channel_major = {
        value
        for fused in (op for it in segments for op in it.ops)
        if isinstance(fused.op, DepthwiseOp)
        for value in (*fused.op.inputs, fused.output)
    }
    channel_major &= set(halo_columns) - materialized
    return Schedule(segments, halo_columns, frozenset(materialized), frozenset(channel_major), exported)


def _cut(program: Program, ops: Sequence[Op]) -> list[list[Op]]:
    """Cut where the fewest channels are live, once a segment has the least radius and as much is left."""
    last_use = {value: place for place, it in enumerate(ops) for value in it.inputs}
    others = set(program.ops).difference(ops)
    last_use |= {value: len(ops) for it in others for value in it.inputs}
    radius_left = {op.output: 0 for op in ops}
    for op in reversed(ops):
        for value in op.inputs:
            radius_left[value] = max(radius_left.get(value, 0), radius_left[op.output] + op.radius[0])
    parts: list[list[Op]] = []
    start = 0
    while start < len(ops):
        radii: dict[int, int] = {}
        live_channels: dict[int, int] = {}
        stop = sum(op.radius[0] for op in ops) + 1
        for place in range(start, len(ops)):
            op = ops[place]
            radii[op.output] = op.radius[0] + max(radii.get(value, 0) for value in op.inputs)
            farthest = max(radii.values())
            if farthest >= stop:
                break
            if farthest >= MIN_RADIUS and radius_left[op.output] >= MIN_RADIUS:
                stop = min(stop, farthest + MIN_RADIUS)
                live_channels[place] = sum(program.channels[it] for it in radii if last_use.get(it, -1) > place)
        # Of several, the last: what is computed from one value alone need not be stored before.
        end = min(live_channels, key=lambda it: (live_channels[it], -it)) + 1 if live_channels else len(ops)
        parts.append(list(ops[start:end]))
        start = end
    return parts


def _stages(program: Program, ops: Sequence[Op], materialized: set[int]) -> tuple[tuple[Stage, ...], dict[int, int]]:
    """Return the stages of a segment and its ``buffer_rows``."""
    delays: dict[int, int] = {}
    for op in ops:
        rows, columns = op.radius
        # All columns of the same row must exist too; and depthwise convolutions read whole rows. Factors are computed
        # once the row before them is complete, in the same stage.
        whole_rows = (columns or isinstance(op, DepthwiseOp)) and not isinstance(op, FactorsOp)
        ahead = (max(rows, 1) if whole_rows else rows) + _is_paired(op)
        delays[op.output] = max((delays[value] + ahead for value in op.inputs if value in delays), default=0)
    uses = [(value, op) for op in ops for value in dict.fromkeys(op.inputs)]
    in_pairs = {op.output for op in ops if _is_paired(op)}
    for op in ops:
        if isinstance(op, Elementwise) and in_pairs.intersection(op.inputs):
            in_pairs.add(op.output)
    buffered: dict[int, int] = {}
    for value, op in uses:
        if value in delays and (delays[op.output] != delays[value] or op.radius != (0, 0)):
            rows = delays[op.output] + op.radius[0] - delays[value] + 1 + (value in in_pairs)
            buffered[value] = max(buffered.get(value, 0), rows)
    by_delay = {delay: [op for op in ops if delays[op.output] == delay] for delay in sorted(set(delays.values()))}
    halo = _halos(by_delay, materialized.union(program.boundaries))
    stages = []
    for delay, simultaneous in by_delay.items():
        simultaneous.sort(key=lambda op: not isinstance(op, DepthwiseOp))
        whole = (materialized | program.imported).difference(delays)
        earlier = whole | {value for value, other in delays.items() if other < delay}
        fused = _fuse(program, simultaneous, buffered, materialized, uses, earlier)
        stages.append(Stage(delay, fused, halo[delay]))
    for stage in stages:
        for place, it in enumerate(stage.ops):
            after = iter(stage.ops[place + 1 :])
            if it.row_pass is RowPass.BLOCKS:
                after = dropwhile(lambda other: other.row_pass is RowPass.BLOCKS, after)
            if it.row_pass is RowPass.CHANNELS or any(it.output in other.inputs for other in after):
                # It is computed for a whole row before what follows.
                buffered.setdefault(it.output, 2 if it.paired else 1)
    return tuple(stages), {value: rows for value, rows in buffered.items() if value not in materialized}


def _halos(stages: Mapping[int, Sequence[Op]], shared: Collection[int]) -> dict[int, int]:
    """Return the ``halo_rows`` of stages.

    Where rows are computed in pairs, one more than is needed may have to be computed. What it depends on need not
    exist, unless other threads see it.

    Args:
        stages: the operations of each stage by its row delay.
        shared: the values that all threads write to.
    """
    needed: dict[int, int] = {}
    found: dict[int, int] = {}
    for delay, ops in sorted(stages.items(), reverse=True):
        rows = max(needed.get(op.output, 0) for op in ops)
        found[delay] = rows + (rows % 2 if any(map(_is_paired, ops)) else 0)
        if any(op.output in shared for op in ops):
            rows = found[delay]
        for op in ops:
            for value in op.inputs:
                needed[value] = max(needed.get(value, 0), rows + op.radius[0])
    return found


def _is_paired(op: Op) -> bool:
    return isinstance(op, ConvOp) and op.paired


def _output_halos(program: Program, segments: Sequence[tuple[Stage, ...]]) -> list[int | None]:
    """Return each segment's ``output_halo``: 0 for the result's, elsewhere what the segments after it read."""
    needed: dict[int, int | None] = dict.fromkeys(program.boundaries)
    found: list[int | None] = []
    for stages in reversed(segments):
        halos = [needed.get(op.output, 0) for stage in stages for op in stage.ops]
        rows = None if None in halos else max(it for it in halos if it is not None)
        for stage in stages:
            for op in stage.ops:
                for value in op.inputs:
                    before = needed.get(value, 0)
                    if rows is None or before is None:
                        needed[value] = None
                    else:
                        needed[value] = max(before, rows + stage.halo_rows + op.op.radius[0])
        found.append(rows)
    return found[::-1]


def _fuse(
    program: Program,
    ops: Sequence[Op],
    buffered: Collection[int],
    materialized: Collection[int],
    uses: Sequence[tuple[int, Op]],
    earlier: Collection[int],
) -> tuple[FusedOp, ...]:
    """Fuse elementwise operations into the one before them, where nothing else uses what they are applied to.

    Of values that are computed ``earlier``, the next row exists, too.
    """
    used_by: dict[int, list[Op]] = {}
    for value, op in uses:
        used_by.setdefault(value, []).append(op)

    def joins(first: Op, op: Op, values: set[int]) -> bool:
        """Return whether an operation can be applied to ``values``, the results of ``first`` and of its epilogue."""
        if not isinstance(op, Elementwise) or values.isdisjoint(op.inputs):
            return False
        others = set(op.inputs) - values
        alike = program.channels[op.output] == program.channels[first.output]
        # A depthwise convolution is computed first, channel by channel for a whole row. Blocks of other operations do
        # not exist then, whole maps would be read with large strides, and the output image is made from blocks.
        in_rows = all(it in buffered and it not in materialized for it in others)
        is_exported = op.output in {program.result, *program.boundaries}
        if _is_paired(first) and (is_exported or not others.issubset(earlier)):
            return False
        return alike and (not isinstance(first, DepthwiseOp) or (in_rows and not is_exported))

    def is_internal(value: int, group: Sequence[Op]) -> bool:
        """Return whether only a group of operations uses a value."""
        kept = value in buffered or value in materialized or value in program.boundaries or value == program.result
        return not kept and all(op in group for op in used_by.get(value, ()))

    fused: list[FusedOp] = []
    start = 0
    while start < len(ops):
        group, end = [ops[start]], start + 1
        for op in ops[start + 1 :]:
            if not joins(group[0], op, {it.output for it in group}):
                break
            group.append(op)
            if all(is_internal(it.output, group) for it in group[:-1]):
                end = start + len(group)
        epilogue = tuple(it for it in ops[start + 1 : end] if isinstance(it, Elementwise))
        fused.append(FusedOp(ops[start], epilogue))
        start = end
    return tuple(fused)

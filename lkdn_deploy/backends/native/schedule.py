"""In what order rows of a program's values are computed, and how many rows of each are kept.

A program runs in passes over the picture, row by row. In a pass an operation runs as many rows behind the first as what
it takes needs to be ahead of it (its lag); operations of one lag are a stage, and are done block by block of a row:
what only they use never leaves the first-level cache. Of what later stages use, as many rows are kept as these reach
back. Passes end where few channels go on, and hand over whole frames: several threads can then each take a band of rows
and compute again only as many of their neighbours' rows as the pass reaches. Passes end, too, where the whole picture
must be known: all operations of one depth come before those of the next.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from lkdn_deploy.backends.native.ir import Depthwise, Operation, Pointwise, Program

LEAST_REACH = 4
"""Rows that a pass reaches before it may end. Shorter passes would write and read more frames, longer ones repeat more
rows between bands."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An operation, and pointwise ones that are done to its results before they are stored."""

    operation: Operation
    chain: tuple[Pointwise, ...]

    @property
    def output(self) -> int:
        """The value that is stored."""
        return self.chain[-1].output if self.chain else self.operation.output

    @property
    def inputs(self) -> tuple[int, ...]:
        """The values that are read."""
        inside = {self.operation.output, *(link.output for link in self.chain)}
        found = [*self.operation.inputs, *(value for link in self.chain for value in link.inputs)]
        return tuple(dict.fromkeys(value for value in found if value not in inside))


@dataclass(frozen=True, slots=True)
class Stage:
    """Kernels that are done to a block of a row, one after the other."""

    lag: int
    """Rows behind the first stage of the pass."""
    kernels: tuple[Kernel, ...]
    beyond: int
    """Rows outside a band that must be computed for it, to each side."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Stages in the order in which they are done for each row."""

    depth: int
    """Of all that it computes; see ``Program``."""
    stages: tuple[Stage, ...]
    rows: dict[int, int]
    """How many rows are kept of a value that is used in this pass only."""
    around: int | None
    """Rows to each side of what is wanted of the result that must be computed here; None: all that there are."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of a program."""

    passes: tuple[Pass, ...]
    margins: dict[int, int]
    """Columns on each side that are kept with a value's rows, by value: of each that is kept at all."""
    frames: frozenset[int]
    """Values of which all rows are kept."""
    by_channel: frozenset[int]
    """Values of which some rows are kept, one channel after the other, since depthwise convolutions work so."""


def schedule(program: Program) -> Schedule:
    """Cut into passes, and each into stages."""
    parts: list[tuple[int, list[Operation]]] = []
    for depth, operations in groupby(program.operations, lambda operation: program.depths[operation.output]):
        parts += [(depth, part) for part in _cut(program, list(operations))]
    frames: set[int] = set()
    for place, (_, part) in enumerate(parts):
        later = {value for _, after in parts[place + 1 :] for operation in after for value in operation.inputs}
        frames |= later & {operation.output for operation in part}
    staged = [(depth, *_stages(program, part, frames)) for depth, part in parts]
    around = _around(program, [stages for _, stages, _ in staged])
    passes = tuple(Pass(*it, rows) for it, rows in zip(staged, around, strict=True))
    margins = dict.fromkeys(frames, 0) | {value: 0 for one in passes for value in one.rows}
    for operation in program.operations:
        for value in operation.inputs:
            if value in margins:
                margins[value] = max(margins[value], operation.reach[1])
    by_channel = {
        value
        for kernel in (kernel for one in passes for stage in one.stages for kernel in stage.kernels)
        if isinstance(kernel.operation, Depthwise)
        for value in (*kernel.operation.inputs, kernel.output)
    }
    return Schedule(passes, margins, frozenset(frames), frozenset(by_channel & set(margins) - frames))


def _cut(program: Program, operations: Sequence[Operation]) -> list[list[Operation]]:
    """Where the fewest channels go on, once a pass reaches far enough and as long as as much is left."""
    last_use = {value: place for place, it in enumerate(operations) for value in it.inputs}
    others = set(program.operations).difference(operations)
    last_use |= {value: len(operations) for it in others for value in it.inputs}
    left = {operation.output: 0 for operation in operations}
    for operation in reversed(operations):
        for value in operation.inputs:
            left[value] = max(left.get(value, 0), left[operation.output] + operation.reach[0])
    parts: list[list[Operation]] = []
    start = 0
    while start < len(operations):
        reaches: dict[int, int] = {}
        going_on: dict[int, int] = {}
        stop = sum(operation.reach[0] for operation in operations) + 1
        for place in range(start, len(operations)):
            operation = operations[place]
            reached = operation.reach[0] + max(reaches.get(value, 0) for value in operation.inputs)
            reaches[operation.output] = reached
            farthest = max(reaches.values())
            if farthest >= stop:
                break
            if farthest >= LEAST_REACH and left[operation.output] >= LEAST_REACH:
                stop = min(stop, farthest + LEAST_REACH)
                going_on[place] = sum(program.channels[value] for value in reaches if last_use.get(value, -1) > place)
        # Of several the last: what is computed of one value alone need not be stored before.
        end = min(going_on, key=lambda place: (going_on[place], -place)) + 1 if going_on else len(operations)
        parts.append(list(operations[start:end]))
        start = end
    return parts


def _stages(
    program: Program, operations: Sequence[Operation], frames: set[int]
) -> tuple[tuple[Stage, ...], dict[int, int]]:
    """Of a pass, and how many rows it keeps of which values."""
    lags: dict[int, int] = {}
    for operation in operations:
        rows, columns = operation.reach
        # Of the same row, too, all columns must be there; and whole rows are what depthwise ones take.
        ahead = max(rows, 1) if columns or isinstance(operation, Depthwise) else rows
        lags[operation.output] = max((lags[value] + ahead for value in operation.inputs if value in lags), default=0)
    uses = [(value, operation) for operation in operations for value in dict.fromkeys(operation.inputs)]
    kept: dict[int, int] = {}
    for value, operation in uses:
        if value in lags and (lags[operation.output] != lags[value] or operation.reach != (0, 0)):
            behind = lags[operation.output] + operation.reach[0] - lags[value] + 1
            kept[value] = max(kept.get(value, 0), behind)
    beyond = {operation.output: 0 for operation in operations}
    for operation in reversed(operations):
        for value in operation.inputs:
            if value in beyond:
                beyond[value] = max(beyond[value], beyond[operation.output] + operation.reach[0])
    stages = []
    for lag in sorted(set(lags.values())):
        mine = [operation for operation in operations if lags[operation.output] == lag]
        mine.sort(key=lambda operation: not isinstance(operation, Depthwise))
        kernels = _chained(program, mine, kept, frames, uses)
        stages.append(Stage(lag, kernels, max(beyond[operation.output] for operation in mine)))
    for kernel in (kernel for stage in stages for kernel in stage.kernels):
        if isinstance(kernel.operation, Depthwise):
            kept.setdefault(kernel.output, 1)  # it is done for a whole row before what follows is
    rows_kept = {value: rows for value, rows in kept.items() if value not in frames}
    return tuple(stages), rows_kept


def _around(program: Program, passes: Sequence[tuple[Stage, ...]]) -> list[int | None]:
    """Of each pass ``Pass.around``: nothing around the result, and around others what is read for what needs them."""
    needed: dict[int, int | None] = dict.fromkeys(program.outside)
    found: list[int | None] = []
    for stages in reversed(passes):
        mine = [needed.get(kernel.output, 0) for stage in stages for kernel in stage.kernels]
        rows = None if None in mine else max(it for it in mine if it is not None)
        for stage in stages:
            for kernel in stage.kernels:
                for value in kernel.inputs:
                    before = needed.get(value, 0)
                    if rows is None or before is None:
                        needed[value] = None
                    else:
                        needed[value] = max(before, rows + stage.beyond + kernel.operation.reach[0])
        found.append(rows)
    return found[::-1]


def _chained(
    program: Program,
    operations: Sequence[Operation],
    kept: Collection[int],
    frames: Collection[int],
    uses: Sequence[tuple[int, Operation]],
) -> tuple[Kernel, ...]:
    """Pointwise operations joined to the one before them, where nothing else takes what that gives."""

    def goes_on(before: Kernel, operation: Operation) -> bool:
        value = before.output
        alone = [it for taken, it in uses if taken == value] == [operation]
        if not alone or value in kept or value in frames or not isinstance(operation, Pointwise):
            return False
        if operation.inputs.count(value) != 1:
            return False
        # A depthwise convolution is done for a whole row first, channel by channel: no block of another kernel is there
        # then, frames would be read in leaps, and the enlarged picture is made of blocks.
        by_rows = isinstance(before.operation, Depthwise)
        others = set(operation.inputs) - {value}
        here = all(it in kept and it not in frames for it in others)
        return not by_rows or (here and operation.output not in {program.result, *program.outside})

    kernels: list[Kernel] = []
    for operation in operations:
        before = kernels[-1] if kernels else None
        if before is not None and isinstance(operation, Pointwise) and goes_on(before, operation):
            kernels[-1] = Kernel(before.operation, (*before.chain, operation))
        else:
            kernels.append(Kernel(operation, ()))
    return tuple(kernels)

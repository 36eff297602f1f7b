"""A program compiled for this processor, and its runs on pictures of any size, by one or several threads."""

import hashlib
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lkdn_deploy.backends import kept
from lkdn_deploy.backends.native import gelu, kernels, layout
from lkdn_deploy.backends.native.layout import LINE, Grid
from lkdn_deploy.backends.native.lower import Shape, lower
from lkdn_deploy.backends.native.machine import COMPILER, Library, Processor, compiled
from lkdn_deploy.backends.native.program import Floats, Program
from lkdn_deploy.backends.native.schedule import Pass, Schedule, schedule


class Engine:
    """A network on the CPU."""

    def __init__(self, program: Program, target: Processor) -> None:
        self.program, self.lanes = program, target.lanes
        self.plan = schedule(program)
        self.scale = int(program.order.shape[1])
        self.stages = [
            [lower(stage, program, self.plan, target.results) for stage in one.stages] for one in self.plan.passes
        ]
        shapes = dict.fromkeys(lowered.shape for stages in self.stages for lowered in stages)
        self._library = Library(_code(tuple(shapes), target), target)
        self.band = self._library.band(_BAND)
        self.addresses = {shape: self._library.address(_name(number)) for number, shape in enumerate(shapes)}
        self.weights = [[_aligned_copy(lowered.weights) for lowered in stages] for stages in self.stages]

    def bytes_per_pixel(self) -> int:
        """Of the frames and of the result. Rows of a pass are too few to count."""
        most: dict[int, int] = {}
        for value, slot in frame_slots(self.plan).items():
            most[slot] = max(most.get(slot, 0), self.program.channels[value])
        return 4 * (sum(most.values()) + 3 * self.scale**2)


_BAND = "band"


def _name(number: int) -> str:
    return f"stage{number}"


def _code(shapes: tuple[Shape, ...], target: Processor) -> bytes:
    """Of the stages of these shapes, compiled or found."""
    sources = b"".join(Path(it.__file__ or "").read_bytes() for it in (gelu, kernels, layout))
    key = hashlib.sha256(repr((COMPILER, target, shapes)).encode() + sources).hexdigest()
    code = kept.find("native", key)
    if code is None:
        module = ir.Module()
        for number, shape in enumerate(shapes):
            kernels.emit_stage(module, _name(number), shape, target.lanes)
        kernels.emit_band(module, _BAND)
        code = compiled(module, target)
        kept.keep("native", key, code)
    return code


@dataclass(frozen=True, slots=True)
class _Band:
    """One thread's part of a pass."""

    stages: NDArray[np.int64]
    """The table that ``emit_band`` describes."""
    rows: list[NDArray[np.int64]]
    """Of each stage; its addresses are in ``stages``."""
    results: list[NDArray[np.int64]]
    """Of ``rows``, where the address of the enlarged picture goes."""
    first: int
    last: int


class Workspace:
    """Memory for pictures of one size, and tables of what is where in it."""

    def __init__(self, engine: Engine, height: int, width: int, threads: int) -> None:
        self.size = height, width
        self.wide = 3, engine.scale * height, engine.scale * Grid(height, width, engine.lanes).columns
        """Shape of what ``run`` fills: rows of whole vectors, the picture to their left."""
        self._engine = engine
        self._grid = Grid(height, width, engine.lanes)
        plan, channels = engine.plan, engine.program.channels
        self._floats = {
            value: self._grid.row_floats(channels[value], margin, by_channel=value in plan.by_channel)
            for value, margin in plan.margins.items()
        }
        self._frames = self._shared_frames()
        parts = min(threads, height)
        bounds = [height * part // parts for part in range(parts + 1)]
        most = max(sum(rows * self._floats[value] for value, rows in one.rows.items()) for one in plan.passes)
        self._rings = [aligned(most) for _ in range(parts)]
        self._zeros = aligned(max(self._floats.values(), default=1))
        self._zeros[:] = 0
        facts = (height, width, self._grid.steps, self._grid.blocks, self._zeros.ctypes.data)
        self._geometry = np.array(facts, np.int64)
        self._passes = [
            [
                self._band(number, one, ring, low, high)
                for ring, low, high in zip(self._rings, bounds, bounds[1:], strict=False)
            ]
            for number, one in enumerate(plan.passes)
        ]

    def run(self, planes: Floats, wide: Floats, pool: Executor) -> None:
        """(3, H, W) enlarged into ``wide``, of that shape and without gaps."""
        self._grid.spread(planes, self._engine.plan.margins[0], self._frames[0])
        for bands in self._passes:
            for band in bands:
                for entry in band.results:
                    entry[0] = wide.ctypes.data
            others = [pool.submit(self._run_band, band) for band in bands[1:]]
            try:
                self._run_band(bands[0])
            finally:  # on an interrupt, too: the memory is theirs as long as they run
                wait(others)

    def _run_band(self, band: _Band) -> None:
        stages, geometry = band.stages, self._geometry
        self._engine.band(stages.ctypes.data, len(stages), geometry.ctypes.data, band.first, band.last)

    def _shared_frames(self) -> dict[int, Floats]:
        """Of each value that goes from pass to pass."""
        slots = frame_slots(self._engine.plan)
        most: dict[int, int] = {}
        for value, slot in slots.items():
            most[slot] = max(most.get(slot, 0), self._grid.height * self._floats[value])
        memory = {slot: aligned(size) for slot, size in most.items()}
        return {value: memory[slot] for value, slot in slots.items()}

    def _band(self, number: int, one: Pass, ring: Floats, low: int, high: int) -> _Band:
        height = self._grid.height
        sizes = [rows * self._floats[value] for value, rows in one.rows.items()]
        starts = dict(zip(one.rows, accumulate(sizes, initial=0), strict=False))
        tables, rows_of, results = [], [], []
        for stage, lowered, weights in zip(
            one.stages, self._engine.stages[number], self._engine.weights[number], strict=True
        ):
            rows = np.zeros((len(lowered.values), 3), np.int64)
            for entry, value in zip(rows, lowered.values, strict=True):
                if value in starts:
                    entry[:] = ring.ctypes.data + 4 * starts[value], one.rows[value], 4 * self._floats[value]
                elif value in self._frames:
                    entry[:] = self._frames[value].ctypes.data, height, 4 * self._floats[value]
                elif value == self._engine.program.result:
                    results.append(entry)
            rows_of.append(rows)
            address = self._engine.addresses[lowered.shape]
            limits = max(low - stage.beyond, 0), min(high + stage.beyond, height)
            tables.append((address, rows.ctypes.data, weights.ctypes.data, stage.lag, *limits))
        table = np.array(tables, np.int64)
        return _Band(
            table, rows_of, results, int((table[:, 4] + table[:, 3]).min()), int((table[:, 5] + table[:, 3]).max())
        )


def frame_slots(plan: Schedule) -> dict[int, int]:
    """A number for the memory of each frame; those that are not needed at the same time share one."""
    first, last = {0: 0}, {0: 0}
    for number, one in enumerate(plan.passes):
        for kernel in (kernel for stage in one.stages for kernel in stage.kernels):
            for value in plan.frames & {kernel.output, *kernel.inputs}:
                first.setdefault(value, number)
                last[value] = number
    slots: dict[int, int] = {}
    free: dict[int, list[int]] = {}
    for number in range(len(plan.passes)):
        for value in (value for value, place in first.items() if place == number):
            alike = free.get(plan.margins[value])
            slots[value] = alike.pop() if alike else len(set(slots.values()))
        for value in (value for value, place in last.items() if place == number):
            free.setdefault(plan.margins[value], []).append(slots[value])
    return slots


def _aligned_copy(values: Floats) -> Floats:
    copy = aligned(values.size)
    copy[:] = values
    return copy


def aligned(count: int) -> Floats:
    """Memory for so many numbers, beginning with a line of the cache."""
    memory = np.empty(count + LINE, np.float32)
    start = -(memory.ctypes.data // 4) % LINE
    return memory[start : start + count]

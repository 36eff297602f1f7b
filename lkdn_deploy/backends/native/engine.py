"""A program compiled for this processor, and its runs on pictures of any size, by one or several threads."""

import hashlib
import math
from collections.abc import Iterable
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lkdn_deploy.backends import kept
from lkdn_deploy.backends.native import builder, gelu, kernels, layout, rows, sigmoid
from lkdn_deploy.backends.native.layout import LINE, Grid
from lkdn_deploy.backends.native.lower import Shape, lower
from lkdn_deploy.backends.native.machine import COMPILER, Library, Processor, compiled
from lkdn_deploy.backends.native.outside import Detours, mean
from lkdn_deploy.backends.native.program import Floats, Kind, Outside, Program
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
        self.detours = Detours(program.detours)
        self.weights = [[_aligned_copy(lowered.weights) for lowered in stages] for stages in self.stages]

    def bytes_per_pixel(self) -> int:
        """Of the frames, the result, and of planes of the outside. Rows of a pass are too few to count."""
        channels = self.program.channels
        most: dict[int, int] = {}
        for value, slot in frame_slots(self.plan).items():
            most[slot] = max(most.get(slot, 0), channels[value])
        planes: dict[int, int] = {}
        for value, there in self.program.outside.items():
            if there.kind is Kind.PLANES:
                depth = self.program.depths[value]
                planes[depth] = planes.get(depth, 0) + channels[value]
        outside = 2 * max(planes.values())  # here, and there
        return 4 * (sum(most.values()) + outside + 3 * self.scale**2)


_BAND = "band"


def _name(number: int) -> str:
    return f"stage{number}"


def _code(shapes: tuple[Shape, ...], target: Processor) -> bytes:
    """Of the stages of these shapes, compiled or found."""
    sources = b"".join(Path(it.__file__ or "").read_bytes() for it in (builder, gelu, kernels, layout, rows, sigmoid))
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
        self._engine = engine
        self._grid = Grid(height, width, engine.lanes)
        self.wide = 3, engine.scale * height, engine.scale * self._grid.columns
        """Shape of what ``run`` fills: rows of whole vectors, the picture to their left."""
        plan, channels = engine.plan, engine.program.channels
        self._floats = {
            value: self._grid.row_floats(channels[value], margin, by_channel=value in plan.by_channel)
            for value, margin in plan.margins.items()
        }
        parts = min(threads, height)
        bounds = [height * part // parts for part in range(parts + 1)]
        slots, frames = self._frame_sizes()
        ring = max(sum(rows * self._floats[value] for value, rows in one.rows.items()) for one in plan.passes)
        zeros = max(self._floats.values(), default=1)
        self._zeros, *rest = pieces([zeros, *[ring] * parts, *frames, *self._outside_sizes()])
        self._zeros[:] = 0
        rings, (even, odd) = rest[:parts], rest[-2:]
        self._frames = {value: rest[parts + slot] for value, slot in slots.items()}
        self._outside = self._shared_outside(even, odd)
        given = engine.program.given
        self._taken_out, self._brought_in = (
            self._by_depth(it for it in engine.program.outside if (it in given) == inwards) for inwards in (False, True)
        )
        facts = (height, width, self._grid.steps, self._grid.blocks, self._zeros.ctypes.data)
        self._geometry = np.array(facts, np.int64)
        self._passes = [
            [
                self._band(number, one, ring, low, high)
                for ring, low, high in zip(rings, bounds, bounds[1:], strict=False)
            ]
            for number, one in enumerate(plan.passes)
        ]

    def run(self, planes: Floats, wide: Floats, pool: Executor) -> None:
        """(3, H, W) enlarged into ``wide``, of that shape and without gaps."""
        known = {self._engine.program.outside[0].name: planes[None]}
        depth = -1
        for one, bands in zip(self._engine.plan.passes, self._passes, strict=True):
            while depth < one.depth:
                depth += 1
                self._cross(depth, known)
            for band in bands:
                for entry in band.results:
                    entry[0] = wide.ctypes.data
            others = [pool.submit(self._run_band, band) for band in bands[1:]]
            try:
                self._run_band(bands[0])
            finally:  # on an interrupt, too: the memory is theirs as long as they run
                wait(others)

    def _cross(self, depth: int, known: dict[str, NDArray[Any]]) -> None:
        """Take out what the depth before computed for the outside, go there, and bring in what this one takes."""
        detours = self._engine.detours
        needed = detours.needed_after(depth)
        for there, found in self._taken_out.get(depth - 1, ()):
            if there.kind is Kind.SUMS:
                known[there.name] = mean(found, self.size[0] * self.size[1])
            else:  # its memory is used again two depths on
                known[there.name] = found[None].copy() if there.name in needed else found[None]
        brought_in = self._brought_in.get(depth, ())
        detours.run(depth, known, {it.name: memory[None] for it, memory in brought_in if it.kind is Kind.PLANES})
        for there, memory in brought_in:
            if not np.shares_memory(known[there.name], memory):
                memory[:] = known[there.name].reshape(memory.shape)
        for name in known.keys() - needed:
            del known[name]

    def _run_band(self, band: _Band) -> None:
        stages, geometry = band.stages, self._geometry
        self._engine.band(stages.ctypes.data, len(stages), geometry.ctypes.data, band.first, band.last)

    def _frame_sizes(self) -> tuple[dict[int, int], list[int]]:
        """Of each value that goes from pass to pass its slot, and how large each slot is."""
        slots = frame_slots(self._engine.plan)
        sizes = [0] * len(set(slots.values()))
        for value, slot in slots.items():
            sizes[slot] = max(sizes[slot], self._grid.height * self._floats[value])
        return slots, sizes

    def _outside_shape(self, value: int) -> tuple[int, int, int]:
        channels, (height, width) = self._engine.program.channels[value], self.size
        return {
            Kind.PLANES: (channels, height, width),
            Kind.SUMS: (height, channels, self._grid.lanes),
            Kind.NUMBERS: (channels, 1, 1),
        }[self._engine.program.outside[value].kind]

    def _outside_size(self, value: int) -> int:
        """With what is read beyond the last row."""
        return whole_lines(math.prod(self._outside_shape(value)) + self._grid.columns - self.size[1])

    def _outside_sizes(self) -> tuple[int, int]:
        """Of all values of one depth, the most of even and of odd depths.

        What one depth computes is there until the next has taken what it is given.
        """
        depths: dict[int, int] = {0: 0, 1: 0}
        for value in self._engine.program.outside:
            depth = self._engine.program.depths[value]
            depths[depth] = depths.get(depth, 0) + self._outside_size(value)
        even, odd = (max(size for depth, size in depths.items() if depth % 2 == turn) for turn in range(2))
        return even, odd

    def _by_depth(self, values: Iterable[int]) -> dict[int, list[tuple[Outside, Floats]]]:
        found: dict[int, list[tuple[Outside, Floats]]] = {}
        for value in values:
            there = self._engine.program.outside[value], self._outside[value]
            found.setdefault(self._engine.program.depths[value], []).append(there)
        return found

    def _shared_outside(self, even: Floats, odd: Floats) -> dict[int, Floats]:
        program = self._engine.program
        starts: dict[int, int] = {}
        found = {}
        for value in program.outside:
            depth, shape = program.depths[value], self._outside_shape(value)
            start = starts.get(depth, 0)
            found[value] = (odd if depth % 2 else even)[start : start + math.prod(shape)].reshape(shape)
            starts[depth] = start + self._outside_size(value)
        return found

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
                elif value in self._outside:
                    entry[0] = self._outside[value].ctypes.data
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
    first: dict[int, int] = {}
    last: dict[int, int] = {}
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


def pieces(sizes: list[int]) -> list[Floats]:
    """Memory for each of so many numbers, all in one piece that begins with one of the system's large pages.

    In small pages, which lie anywhere, rows that are kept would meet in the second-level cache.
    """
    starts = list(accumulate((whole_lines(size) for size in sizes), initial=0))
    memory = aligned(max(starts[-1], ASKED_FOR), PAGE)
    return [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def whole_lines(count: int) -> int:
    """Numbers in as many lines of the cache as so many take."""
    return -(-count // LINE) * LINE


PAGE = 2**21 // 4
"""Floats of a large page, as most systems have them."""

ASKED_FOR = 2**22 // 4
"""Floats for which NumPy asks for large pages."""


def aligned(count: int, unit: int = LINE) -> Floats:
    """Memory for so many numbers, beginning with a line of the cache, or another unit."""
    memory = np.empty(count + unit, np.float32)
    start = -(memory.ctypes.data // 4) % unit
    return memory[start : start + count]

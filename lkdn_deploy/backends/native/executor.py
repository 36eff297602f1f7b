"""Runs of the native engine on pictures of one size, by one or several threads."""

import math
from collections.abc import Iterable
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.codegen.output import FACTS, TOP
from lkdn_deploy.backends.native.codegen.threads import BEGUN, DONE, GIVE_WAY, STATE, STOP, give_way
from lkdn_deploy.backends.native.compile import Engine, frame_slots
from lkdn_deploy.backends.native.fallback import between, mean
from lkdn_deploy.backends.native.ir import Bytes, Floats, Kind, Outside
from lkdn_deploy.backends.native.layout import Grid, pieces, whole_lines
from lkdn_deploy.backends.native.schedule import Pass
from lkdn_deploy.core.errors import InputError, NonFiniteError, UsageError
from lkdn_deploy.core.protocols import Part


@dataclass(frozen=True, slots=True)
class _Band:
    """One thread's part of a pass."""

    stages: NDArray[np.int64]
    """The table that ``emit_bands`` describes."""
    rows: list[NDArray[np.int64]]
    """Of each stage; its addresses are in ``stages``."""
    beyond: NDArray[np.int64]
    """Rows outside the band that each stage must compute, to each side."""

    def aim(self, low: int, high: int, height: int) -> tuple[int, int]:
        """Have these rows computed, the last exclusive, of so many; gives the first step and the last."""
        lags, lows, highs = self.stages[:, 3], self.stages[:, 4], self.stages[:, 5]
        np.maximum(low - self.beyond, 0, out=lows)
        np.minimum(high + self.beyond, height, out=highs)
        return int((lows + lags).min()), int((highs + lags).max())


@dataclass(frozen=True, slots=True)
class _Give:
    """How one thread's rows of the enlarged picture leave the engine."""

    stage: NDArray[np.int64]
    """Of a band's stages; the function depends on what is wanted."""
    facts: NDArray[np.int64]
    """As ``results`` has them."""


class Workspace:
    """Memory for pictures of one size, and tables of what is where in it."""

    def __init__(self, engine: Engine, height: int, width: int, threads: int) -> None:
        self.size = height, width
        self._engine = engine
        self._grid = Grid(height, width, engine.lanes)
        plan, channels = engine.plan, engine.program.channels
        self._floats = {
            value: self._grid.row_floats(channels[value], margin, by_channel=value in plan.by_channel)
            for value, margin in plan.margins.items()
        }
        parts = min(threads, height)
        slots, frames = self._frame_sizes()
        self._ring = whole_lines(
            max(sum(rows * self._floats[value] for value, rows in one.rows.items()) for one in plan.passes)
        )
        zeros = max(self._floats.values(), default=1)
        self._line = engine.scale * self._grid.columns
        enlarged = 3 * engine.scale * self._line + engine.lanes  # a vector may reach behind the last
        self._zeros, *rest = pieces([zeros, *[self._ring + enlarged] * parts, *frames, *self._outside_sizes()])
        self._zeros[:] = 0
        spaces, (even, odd) = rest[:parts], rest[-2:]
        self._frames = {value: rest[parts + slot] for value, slot in slots.items()}
        self._outside = self._shared_outside(even, odd)
        self._between = {
            there.name: np.zeros((height, 3), np.int64)
            for there in engine.program.outside.values()
            if there.kind is Kind.LINES
        }
        self._lines: dict[str, int] = {}
        given = engine.program.given
        self._taken_out, self._brought_in = (
            self._by_depth(it for it in engine.program.outside if (it in given) == inwards) for inwards in (False, True)
        )
        facts = (height, width, self._grid.steps, self._grid.blocks, self._zeros.ctypes.data)
        self._geometry = np.array(facts, np.int64)
        self._damage = np.zeros(1, np.int64)
        self._gives: list[_Give] = []
        self._bands = [[self._band(number, one, space) for number, one in enumerate(plan.passes)] for space in spaces]
        """By thread, of each pass."""
        self._tables = [
            np.array([(it.stages.ctypes.data, len(it.stages), 0, 0) for it in bands], np.int64) for bands in self._bands
        ]
        """By thread, what ``follow`` takes."""
        self._aimed: tuple[int, int] | None = None
        """The rows of the picture for which both are set."""
        self._state = np.zeros(STATE, np.int64)
        self._state[GIVE_WAY] = give_way()

    def run(self, planes: Floats, kept: Part, place: Floats | Bytes, pool: Executor) -> None:
        """Enlarge (3, H, W), and put a part of the result where it is wanted.

        Args:
            planes: RGB in 0..1.
            kept: rows and columns of the enlarged picture.
            place: float32 (3, h, w) for the values as they are, or bytes (h, w, 3) for pixels of 8 bits, whose rows,
                and planes, may be any distance apart.
            pool: of a thread for each but one of ``threads``.

        Raises:
            InputError: if a part that is done outside the engine fails, or the picture is too small for it.
            NonFiniteError: if a pixel is none; what is in ``place`` then is of no use.
            UsageError: if ``place`` has another shape than ``kept``.
        """
        engine, state = self._engine, self._state
        self._aim(kept, place)
        known = {engine.program.outside[0].name: planes[None]}
        depth = -1
        state[[BEGUN, DONE]] = 0
        others: list[Future[None]] = []
        try:
            others += (pool.submit(self._follow, table) for table in self._tables[1:])
            geometry = self._geometry.ctypes.data
            for number, (one, mine) in enumerate(zip(engine.plan.passes, self._tables[0].tolist(), strict=True)):
                while depth < one.depth:
                    depth += 1
                    self._cross(depth, known)
                stages, count, *ends = mine
                engine.lead(state.ctypes.data, number, len(others), stages, count, geometry, *ends)
        except BaseException:
            state[BEGUN] = STOP
            raise
        finally:  # the memory is theirs as long as they run
            wait(others)
        if self._damage[0]:
            raise NonFiniteError

    def _aim(self, kept: Part, place: Floats | Bytes) -> None:
        """Have what is enlarged given to ``place``, and as many rows computed as that needs."""
        (top, bottom, _), (left, right, _) = (
            part.indices(self._engine.scale * side) for part, side in zip(kept, self.size, strict=True)
        )
        pixels = place.dtype == np.uint8
        shape, apart = ((bottom - top, right - left, 3), (3, 1)) if pixels else ((3, bottom - top, right - left), (4,))
        if place.shape != shape or place.strides[-len(apart) :] != apart:
            msg = f"{shape} without gaps in a row was expected, got {place.shape}, {place.strides} bytes apart"
            raise UsageError(msg)
        plane, row = (0, place.strides[0]) if pixels else place.strides[:2]
        for give in self._gives:
            give.stage[0] = self._engine.pixels if pixels else self._engine.planes
            give.facts[TOP:] = top, bottom, left, right - left, place.ctypes.data, row, plane
        self._damage[0] = 0
        rows = top // self._engine.scale, -(-bottom // self._engine.scale)
        if rows != self._aimed:  # seldom: it takes a hundredth of a small picture's time
            self._aim_bands(*rows)
            self._aimed = rows

    def _aim_bands(self, top: int, bottom: int) -> None:
        """Have as many rows computed, pass by pass, as those of the result, the last exclusive, need."""
        height, parts = self.size[0], len(self._bands)
        for number, one in enumerate(self._engine.plan.passes):
            low, high = 0, height
            if one.around is not None:
                low, high = max(top - one.around, 0), min(bottom + one.around, height)
            bounds = [low + (high - low) * part // parts for part in range(parts + 1)]
            for bands, table, ends in zip(self._bands, self._tables, pairwise(bounds), strict=True):
                table[number, 2:] = bands[number].aim(*ends, height)

    def _follow(self, table: NDArray[np.int64]) -> None:
        self._engine.follow(self._state.ctypes.data, table.ctypes.data, len(table), self._geometry.ctypes.data)

    def _cross(self, depth: int, known: dict[str, NDArray[Any]]) -> None:
        """Take out what the depth before computed for the outside, go there, and bring in what this one takes."""
        detours = self._engine.detours
        for there, found in self._taken_out.get(depth - 1, ()):
            if there.kind is Kind.SUMS:
                known[there.name] = mean(found, self.size[0] * self.size[1])
            else:  # its memory is used again two depths on
                known[there.name] = found[None].copy() if detours.last_use(there.name) > depth else found[None]
        brought_in = self._brought_in.get(depth, ())
        detours.run(depth, known, {it.name: memory[None] for it, memory in brought_in if it.kind is Kind.PLANES})
        for there, memory in brought_in:
            found = known[there.name]
            if there.kind is Kind.LINES:
                if not found.shape[2]:
                    msg = "this network takes larger windows than {1}x{0} pixels".format(*self.size)
                    raise InputError(msg, "upscale with lkdn-upscale, which repeats the edge of smaller pictures")
                memory[:, : found.shape[2]] = found[0]
                if self._lines.get(there.name) != found.shape[2]:  # as for the first picture only
                    self._lines[there.name] = found.shape[2]
                    self._between[there.name][:] = between(found.shape[2], self.size[0])
            elif not np.shares_memory(found, memory):
                memory[:] = found.reshape(memory.shape)
        for name in [name for name in known if detours.last_use(name) <= depth]:
            del known[name]

    def _frame_sizes(self) -> tuple[dict[int, int], list[int]]:
        """Of each value that goes from pass to pass its slot, and how large each slot is."""
        slots = frame_slots(self._engine.plan)
        sizes = [0] * len(set(slots.values()))
        for value, slot in slots.items():
            sizes[slot] = max(sizes[slot], self._grid.height * self._floats[value])
        return slots, sizes

    def _outside_shape(self, value: int) -> tuple[int, ...]:
        channels, (height, width) = self._engine.program.channels[value], self.size
        return {
            Kind.PLANES: (channels, height, width),
            Kind.LINES: (channels, height, width),  # no more than these, and how many is told when they come
            Kind.SUMS: (height, channels),
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

    def _band(self, number: int, one: Pass, space: Floats) -> _Band:
        height = self._grid.height
        sizes = [rows * self._floats[value] for value, rows in one.rows.items()]
        starts = dict(zip(one.rows, accumulate(sizes, initial=0), strict=False))
        enlarged = space.ctypes.data + 4 * self._ring, self._engine.scale * self._line, self._line
        tables, rows_of, beyond, giving = [], [], [], None
        for stage, lowered, weights in zip(
            one.stages, self._engine.stages[number], self._engine.weights[number], strict=True
        ):
            rows = np.zeros((len(lowered.values), 3), np.int64)
            for entry, value in zip(rows, lowered.values, strict=True):
                if value in starts:
                    entry[:] = space.ctypes.data + 4 * starts[value], one.rows[value], 4 * self._floats[value]
                elif value in self._frames:
                    entry[:] = self._frames[value].ctypes.data, height, 4 * self._floats[value]
                elif value in self._outside:
                    entry[0] = self._outside[value].ctypes.data
                    there = self._engine.program.outside[value]
                    if there.kind is Kind.LINES:
                        entry[2] = self._between[there.name].ctypes.data
                elif value == self._engine.program.result:
                    entry[:] = enlarged
            rows_of.append(rows)
            address = self._engine.addresses[lowered.shape]
            tables.append((address, rows.ctypes.data, weights.ctypes.data, stage.lag, 0, 0))
            beyond.append(stage.beyond)
            if lowered.shape.shuffled is not None:
                giving, facts = len(tables), np.array([*enlarged, self._engine.scale, *[0] * (FACTS - TOP)], np.int64)
                tables.append((0, facts.ctypes.data, self._damage.ctypes.data, stage.lag, 0, 0))
                beyond.append(0)
        table = np.array(tables, np.int64)
        if giving is not None:
            self._gives.append(_Give(table[giving], facts))
        return _Band(table, rows_of, np.array(beyond, np.int64))

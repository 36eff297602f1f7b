"""Execution of a compiled network on images of one size, by one or several threads."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native import bounds
from lkdn_deploy.backends.native.codegen.output import FACTS, TOP
from lkdn_deploy.backends.native.codegen.threads import BEGUN, DONE, STATE, STOP, YIELD, yield_function
from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.fallback import BoundaryBuffers
from lkdn_deploy.backends.native.ir import Bytes, Floats
from lkdn_deploy.backends.native.layout import RowLayout, aligned_copy, allocate, inside
from lkdn_deploy.core.errors import NonFiniteError, UsageError
from lkdn_deploy.core.protocols import Part


@dataclass(frozen=True, slots=True)
class _Band:
    """One thread's part of a segment."""

    stages: NDArray[np.int64]
    """The table that ``codegen.threads`` describes."""
    operands: list[NDArray[np.int64]]
    """Tables of each stage's operands, whose addresses are in ``stages``."""
    halo_rows: NDArray[np.int64]
    """Rows outside the band that each stage must compute, to each side."""

    def set_row_range(self, low: int, high: int, height: int) -> tuple[int, int]:
        """Set the rows to compute: ``low`` to ``high`` (exclusive) of ``height``. Return the first and last step."""
        delays, lows, highs = self.stages[:, 3], self.stages[:, 4], self.stages[:, 5]
        np.maximum(low - self.halo_rows, 0, out=lows)
        np.minimum(high + self.halo_rows, height, out=highs)
        return int((lows + delays).min()), int((highs + delays).max())


class Executor:
    """Memory for images of one size, and the tables that tell the compiled code where everything is in it.

    Args:
        network: the network to execute.
        height: height of the input in pixels.
        width: width of the input in pixels.
        threads: number of threads to use, the calling one included.
    """

    def __init__(self, network: CompiledNetwork, height: int, width: int, threads: int) -> None:
        self.size = height, width
        self._network = network
        self._rows = RowLayout(height, width, network.lanes, network.row_unit)
        plan = network.plan
        self._row_floats = network.row_floats(self._rows)
        bands = min(threads, height)
        slots = plan.slots()
        slot_sizes = [0] * len(set(slots.values()))
        for value, slot in slots.items():
            slot_sizes[slot] = max(slot_sizes[slot], height * self._row_floats[value])
        self._boundaries = BoundaryBuffers(network.program, network.fallback, self._rows)
        self._line_buffers, output = network.band_floats(self._rows, self._row_floats)
        self._line = network.scale * self._rows.columns
        sizes = [max(self._row_floats.values(), default=1), *[self._line_buffers + output] * bands]
        self._memory, self._parts = allocate([*sizes, *slot_sizes, *self._boundaries.sizes], bounds.gap())
        self._zeros, *rest = self._parts
        if bounds.DEBUG:
            bounds.fill_gaps(self._memory, self._parts)
        self._zeros[:] = 0
        self._materialized = {value: rest[bands + slot] for value, slot in slots.items()}
        self._boundaries.place(*rest[-2:])
        self._inside = aligned_copy(inside(self._rows).view(np.float32).reshape(-1))
        addresses = self._zeros.ctypes.data, self._inside.ctypes.data
        geometry = (height, width, self._rows.vectors, self._rows.blocks, *addresses)
        self._geometry = np.array(geometry, np.int64)
        self._damage = np.zeros(1, np.int64)
        self._outputs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        """Table entry and facts of each stage that writes the output image; see ``codegen.output``."""
        stages = [it for segment in network.segments for it in segment]
        self._records = np.zeros((bands * sum(len(it.watched) for it in stages), 2), np.int64)
        """The extremes of the watched values of each stage of each thread."""
        self._recorded: list[int] = []
        """The value of each of the records, as far as they are in use."""
        self._bands = [[self._band(number, memory) for number in range(len(plan.segments))] for memory in rest[:bands]]
        """Bands of each thread, by segment."""
        self._by_value = np.argsort(self._recorded, kind="stable")
        """The numbers of the records in the order of their values."""
        values, self._first_of_value = np.unique(np.sort(self._recorded), return_index=True)
        """The place of each value's first record in that order."""
        watched = network.fixed.watched if network.fixed else ()
        self._watched = len(watched)
        self._watched_rows = np.searchsorted(watched, values)
        """The place among the watched values of each value with records."""
        self._tables = [
            np.array([(it.stages.ctypes.data, len(it.stages), 0, 0) for it in bands], np.int64) for bands in self._bands
        ]
        """Table of each thread's bands, which ``codegen.threads`` describes."""
        self._row_range: tuple[int, int] | None = None
        """Input rows for which the tables are set."""
        self._state = np.zeros(STATE, np.int64)
        self._state[YIELD] = yield_function()

    def run(self, image: Floats, part: Part, target: Floats | Bytes, pool: ThreadPoolExecutor) -> None:
        """Upscale an image, and write a part of the result.

        Args:
            image: (3, H, W), RGB in 0..1.
            part: rows and columns of the output image.
            target: float32 (3, h, w) for unclipped values, or uint8 (h, w, 3). Columns must be adjacent; rows and
                planes may be any distance apart.
            pool: at least ``threads`` - 1 idle threads.

        Raises:
            InputError: if a subgraph fails, or the image is too small for the network.
            NonFiniteError: if a pixel is not finite, where uint8 is written. The content of ``target`` is undefined.
            UsageError: if ``target`` does not have the shape of ``part``.
        """
        network, state = self._network, self._state
        self._set_output(part, target)
        self._records[:] = 0
        tensors = {network.program.boundaries[0].name: image[None]}
        state[[BEGUN, DONE]] = 0
        others: list[Future[None]] = []
        try:
            others += (pool.submit(self._follow, table) for table in self._tables[1:])
            self._lead(tensors, len(others))
        except BaseException:
            state[BEGUN] = STOP
            raise
        finally:  # they use this memory for as long as they run
            wait(others)
            if bounds.DEBUG:
                bounds.check_gaps(self._memory, self._parts)
        if self._damage[0]:
            raise NonFiniteError

    def _lead(self, tensors: dict[str, NDArray[Any]], others: int) -> None:
        """Compute this thread's bands, while as many others compute theirs."""
        network, state, bands, geometry = self._network, self._state, self._tables[0], self._geometry.ctypes.data
        if network.lead_all:
            self._boundaries.exchange(0, tensors)
            network.lead_all(state.ctypes.data, bands.ctypes.data, len(bands), others, geometry)
            return
        depth = -1
        for number, (segment, band) in enumerate(zip(network.plan.segments, bands.tolist(), strict=True)):
            while depth < segment.depth:
                depth += 1
                self._boundaries.exchange(depth, tensors)
            stages, count, *steps = band
            network.lead(state.ctypes.data, number, others, stages, count, geometry, *steps)

    def exported(self, value: int) -> Floats:
        """Return a value that leaves the compiled code, (C, H, W), as the last run computed it."""
        return self._boundaries[value]

    def extremes(self) -> NDArray[np.int16]:
        """Return the lowest and the highest number of each watched value of a fixed-point program in the last run.

        The result, (values, 2), has the order of ``FixedProgram.watched``. The lowest is at most 0, the highest at
        least 0, and a side that is not watched is 0.
        """
        found = np.zeros((self._watched, 2), np.int16)
        records = self._records[self._by_value]
        for side, furthest in enumerate((np.minimum, np.maximum)):
            found[self._watched_rows, side] = furthest.reduceat(records[:, side], self._first_of_value)
        return found

    def _follow(self, table: NDArray[np.int64]) -> None:
        self._network.follow(self._state.ctypes.data, table.ctypes.data, len(table), self._geometry.ctypes.data)

    def _set_output(self, part: Part, target: Floats | Bytes) -> None:
        """Set where ``part`` of the output image is written, and the rows that must be computed for it."""
        network = self._network
        (top, bottom, _), (left, right, _) = (
            it.indices(network.scale * side) for it, side in zip(part, self.size, strict=True)
        )
        is_uint8 = target.dtype == np.uint8
        shape, apart = (
            ((bottom - top, right - left, 3), (3, 1)) if is_uint8 else ((3, bottom - top, right - left), (4,))
        )
        if target.shape != shape or target.strides[-len(apart) :] != apart:
            msg = f"an array of shape {shape} with adjacent columns was expected, got {target.shape} with strides of "
            raise UsageError(msg + f"{target.strides} bytes")
        plane, row = (0, target.strides[0]) if is_uint8 else target.strides[:2]
        for stage, facts in self._outputs:
            stage[0] = network.uint8_output if is_uint8 else network.float_output
            facts[TOP:] = top, bottom, left, right - left, target.ctypes.data, row, plane
        self._damage[0] = 0
        rows = top // network.scale, -(-bottom // network.scale)
        if rows != self._row_range:  # this takes a hundredth of a small image's time
            self._set_row_range(*rows)
            self._row_range = rows

    def _set_row_range(self, top: int, bottom: int) -> None:
        """Set each segment's rows to those that rows ``top`` to ``bottom`` (exclusive) of the result depend on."""
        height, bands = self.size[0], len(self._bands)
        for number, segment in enumerate(self._network.plan.segments):
            low, high = 0, height
            if segment.output_halo is not None:
                low, high = max(top - segment.output_halo, 0), min(bottom + segment.output_halo, height)
            step = self._network.row_step
            low, high = low - low % step, min(high + -high % step, height)
            bounds = [low + (high - low) * band // bands // step * step for band in range(bands)] + [high]
            for mine, table, ends in zip(self._bands, self._tables, pairwise(bounds), strict=True):
                table[number, 2:] = mine[number].set_row_range(*ends, height)

    def _buffer_sizes(self, number: int) -> list[int]:
        """Return the floats of each line buffer of a segment."""
        buffers = self._network.plan.segments[number].buffer_rows
        return [rows * self._row_floats[value] for value, rows in buffers.items()]

    def _band(self, number: int, memory: Floats) -> _Band:
        """Build a thread's tables for a segment; ``memory`` holds its line buffers, then lines of the output image."""
        network, segment = self._network, self._network.plan.segments[number]
        starts = dict(zip(segment.buffer_rows, accumulate(self._buffer_sizes(number), initial=0), strict=False))
        output = memory.ctypes.data + 4 * self._line_buffers, network.scale * self._line, self._line

        def operand(value: int) -> tuple[int, int, int]:
            if value in starts:
                start, rows = memory.ctypes.data + 4 * starts[value], segment.buffer_rows[value]
                return start, rows, 4 * self._row_floats[value]
            if value in self._materialized:
                return self._materialized[value].ctypes.data, self.size[0], 4 * self._row_floats[value]
            if value in self._boundaries:
                return self._boundaries.addresses(value)
            return output if value == network.program.result else (0, 0, 0)

        stages, operands_of, halo_rows, writer = [], [], [], None
        for stage, lowered, weights in zip(
            segment.stages, network.segments[number], network.weights[number], strict=True
        ):
            entries = [operand(value) for value in lowered.values]
            for value, entry in zip(lowered.values, entries, strict=True) if bounds.DEBUG else ():
                if value in self._row_floats:
                    bounds.check_rows(entry, self._row_floats[value], self._parts)
            if lowered.watched:
                entries.append((self._records[len(self._recorded) :].ctypes.data, 0, 0))
                self._recorded += lowered.watched
            operands = np.array(entries, np.int64)
            operands_of.append(operands)
            address = network.stage_addresses[lowered.signature]
            stages.append((address, operands.ctypes.data, weights.ctypes.data, stage.row_delay, 0, 0))
            halo_rows.append(stage.halo_rows)
            if lowered.signature.shuffled is not None:
                writer, facts = len(stages), np.array([*output, network.scale, *[0] * (FACTS - TOP)], np.int64)
                stages.append((0, facts.ctypes.data, self._damage.ctypes.data, stage.row_delay, 0, 0))
                halo_rows.append(0)
        table = np.array(stages, np.int64)
        if writer is not None:
            self._outputs.append((table[writer], facts))
        return _Band(table, operands_of, np.array(halo_rows, np.int64))

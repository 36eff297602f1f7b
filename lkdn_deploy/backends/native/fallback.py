"""The fallback: subgraphs that ONNX Runtime executes between segments, and the values exchanged with it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Boundary, BoundaryKind, Floats, Pooling, Program, RowPooling, Subgraph
from lkdn_deploy.backends.native.layout import RowLayout, whole_lines
from lkdn_deploy.backends.native.row_windows import checked_numbers, largest_in_windows
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.optional import import_engine

_MAX_WINDOWS = 512
"""Limit of the windows over rows of a map that has fewer rows, since each takes as much memory as a row."""


class Fallback:
    """The subgraphs of a program, opened in ONNX Runtime.

    Raises:
        MissingError: if there are subgraphs, and ONNX Runtime is not installed.
    """

    def __init__(self, subgraphs: tuple[Subgraph, ...]) -> None:
        self._sessions: dict[int, tuple[Subgraph, Any]] = {}
        self._last_use = {name: it.depth for it in subgraphs for name in it.inputs}
        if not subgraphs:
            return
        onnxruntime = import_engine("onnxruntime", "cpu")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # as in backends.ort
        # More threads would spin while they wait for work, on cores that the kernels then need.
        options.intra_op_num_threads = 1
        for it in subgraphs:
            session = onnxruntime.InferenceSession(it.model, options, providers=["CPUExecutionProvider"])
            self._sessions[it.depth] = it, session

    def run(self, depth: int, tensors: dict[str, NDArray[Any]], targets: Mapping[str, Floats]) -> None:
        """Execute the subgraph of this depth, if there is one.

        Args:
            depth: number of barriers before it.
            tensors: known tensors by name, to which its outputs are added.
            targets: memory for some of its outputs, by name.

        Raises:
            InputError: if ONNX Runtime fails.
        """
        if depth not in self._sessions:
            return
        subgraph, session = self._sessions[depth]
        binding = session.io_binding()
        for name in subgraph.inputs:
            binding.bind_cpu_input(name, tensors[name])
        for name in subgraph.outputs:
            if name in targets:  # fresh memory for each run would cost more than the computation
                target = targets[name]
                binding.bind_output(name, "cpu", 0, target.dtype, target.shape, target.ctypes.data)
            else:
                binding.bind_output(name)
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            msg = "ONNX Runtime failed on a part of this network that the native engine leaves to it"
            raise InputError(msg, f"if memory ran out, use smaller tiles; its message: {str(error)[:200]}") from error
        for name, value in zip(subgraph.outputs, binding.get_outputs(), strict=True):
            tensors[name] = targets[name] if name in targets else value.numpy()

    def close(self) -> None:
        """Release ONNX Runtime's sessions."""
        self._sessions.clear()

    def last_use(self, name: str) -> int:
        """Return the greatest depth of a subgraph that reads this tensor, or -1 if none does."""
        return self._last_use.get(name, -1)


class BoundaryBuffers:
    """Memory for the values of a program that enter or leave the compiled code, for images of one size.

    What one depth computes must remain until the next has read its inputs. So values of even and of odd depths have
    separate memory, each as large as the largest depth needs. ``sizes`` are the floats of both.
    """

    def __init__(self, program: Program, fallback: Fallback, rows: RowLayout) -> None:
        self._program, self._fallback, self._rows = program, fallback, rows
        self._imported = program.imported
        self._arrays: dict[int, Floats] = {}
        self._positions = {
            value: np.zeros((rows.height, 3), np.int64)
            for value, it in program.boundaries.items()
            if it.kind is BoundaryKind.INTERP_ROWS
        }
        self._source_rows: dict[int, int] = {}
        """Number of rows for which ``_positions`` are set."""
        self._last_read: dict[str, int] = {}
        """The greatest depth at which numbers of rows are read, by tensor."""
        for value, it in program.boundaries.items():
            reads = [name for pooling in it.poolings if isinstance(pooling, RowPooling) for name in pooling.starts]
            for name in filter(None, (*reads, it.numbers)):
                self._last_read[name] = max(self._last_read.get(name, 0), program.depths[value] + 1)
        self._starts: dict[int, int] = {}
        depths: dict[int, int] = {0: 0, 1: 0}
        for value in program.boundaries:
            depth = program.depths[value]
            self._starts[value] = depths.get(depth, 0)
            depths[depth] = self._starts[value] + self._floats(value)
        self.sizes = [max(size for depth, size in depths.items() if depth % 2 == odd) for odd in range(2)]

    def place(self, even: Floats, odd: Floats) -> None:
        """Place the values in memory of ``sizes``."""
        for value, start in self._starts.items():
            memory, shape = odd if self._program.depths[value] % 2 else even, self._shape(value)
            self._arrays[value] = memory[start : start + math.prod(shape)].reshape(shape)

    def _at_depth(self, depth: int, *, imported: bool) -> list[tuple[int, Boundary, Floats]]:
        values = (it for it in self._arrays if self._program.depths[it] == depth and (it in self._imported) == imported)
        return [(it, self._program.boundaries[it], self._arrays[it]) for it in values]

    def __contains__(self, value: int) -> bool:
        return value in self._arrays

    def __getitem__(self, value: int) -> Floats:
        return self._arrays[value]

    def addresses(self, value: int) -> tuple[int, int, int]:
        """Return the entry of a boundary value in a stage's table of operands; see ``codegen.stage``."""
        boundary, array = self._program.boundaries[value], self._arrays[value]
        if boundary.kind is BoundaryKind.EVERY_SECOND:
            return array.ctypes.data, *array.shape[1:]
        if boundary.kind is BoundaryKind.ROWS:
            return array.ctypes.data, len(array), array.strides[0]
        positions = self._positions.get(value)
        return array.ctypes.data, 0, 0 if positions is None else positions.ctypes.data

    def exchange(self, depth: int, tensors: dict[str, NDArray[Any]]) -> None:
        """Export what the depth before computed, execute the subgraph of this depth, and import what its segments read.

        Args:
            depth: the depth that begins.
            tensors: tensors known outside the compiled code, by name; kept up to date.

        Raises:
            InputError: if ONNX Runtime fails, or the image is too small for the network.
        """
        fallback = self._fallback
        for value, boundary, array in self._at_depth(depth - 1, imported=False):
            if boundary.kind is BoundaryKind.ROW_SUMS:
                total = array.sum(axis=0, dtype=np.float64)
                found = total if boundary.summed else total / (self._rows.height * self._rows.width)
                tensors[boundary.name] = found.astype(np.float32)[None, :, None, None]
            elif boundary.kind is not BoundaryKind.ROWS:  # its memory is used again two depths later
                tensors[boundary.name] = array[None].copy() if fallback.last_use(boundary.name) > depth else array[None]
            for it in boundary.poolings:
                if isinstance(it, RowPooling):
                    tensors[it.name] = self._pooled_rows(value, array, it, tensors)[None]
                else:
                    tensors[it.name] = self._pooled(array, it)[None]
        imported = self._at_depth(depth, imported=True)
        whole = {it.name: array[None] for _, it, array in imported if it.kind is BoundaryKind.NCHW}
        fallback.run(depth, tensors, whole)
        for value, boundary, array in imported:
            tensor = tensors[boundary.name]
            if boundary.kind is BoundaryKind.INTERP_ROWS:
                self._import_rows(value, tensors)
            elif not np.shares_memory(tensor, array):
                self._check_import(boundary.name, tensor, tensor.ndim > 2 and tensor.shape[-3:] == array.shape)
                array[:] = tensor.reshape(array.shape)
        for name in [it for it in tensors if max(fallback.last_use(it), self._last_read.get(it, -1)) <= depth]:
            del tensors[name]

    def _pooled(self, array: Floats, pooling: Pooling) -> Floats:
        """Return the largest numbers of windows of a map."""
        side, step = pooling.side, pooling.step
        if min(array.shape[1:]) < side:
            raise self._too_small()
        rows, columns = ([slice(at, length - side + at + 1, step) for at in range(side)] for length in array.shape[1:])
        tall = _largest([array[:, it] for it in rows])
        return _largest([tall[:, :, it] for it in columns])

    def _pooled_rows(
        self, value: int, array: Floats, pooling: RowPooling, tensors: Mapping[str, NDArray[Any]]
    ) -> Floats:
        """Return the largest numbers of windows over the rows of a map."""
        count = self._rows.height - pooling.side + 1
        if count < 1:
            raise self._too_small()
        starts = [checked_numbers(tensors[name], name, count) for name in pooling.starts]
        lengths = {len(it) for it in starts} - {1}
        if 0 in lengths:
            raise self._too_small()
        if len(lengths) > 1 or max(lengths, default=1) > max(self._rows.height, _MAX_WINDOWS):
            counts = " and ".join(map(str, sorted(lengths)))
            msg = f"the tensor {pooling.name} is made of {counts} windows, which is too many or does not fit"
            raise InputError(msg, "use --backend ort-cpu")
        starts = list(np.broadcast_arrays(*starts))
        return largest_in_windows(array, starts, pooling.side, self._program.channels[value], self._rows)

    def _too_small(self) -> InputError:
        msg = f"this network does not accept images as small as {self._rows.width}x{self._rows.height} pixels"
        return InputError(msg, "upscale with lkdn-upscale, which repeats the edge of smaller pictures")

    def _import_rows(self, value: int, tensors: Mapping[str, NDArray[Any]]) -> None:
        boundary, array = self._program.boundaries[value], self._arrays[value]
        name, tensor = boundary.name, tensors[boundary.name]
        rows, height = tensor.shape[2] if tensor.ndim == 4 else -1, self._rows.height
        if not rows:
            raise self._too_small()
        if boundary.numbers is not None:
            copied = checked_numbers(tensors[boundary.numbers], boundary.numbers, max(rows, 0))
            self._check_import(name, tensor, len(copied) == height)
            if rows > height:  # more than there is memory for
                tensor, copied, rows = tensor[:, :, copied], np.arange(height), height
            self._positions[value][:] = np.stack([copied, copied, np.zeros(height, np.int64)], axis=1)
        fits = rows <= height and tensor.shape == (1, len(array), rows, array.shape[2])
        self._check_import(name, tensor, fits)
        array[:, :rows] = tensor[0]
        if boundary.numbers is None and self._source_rows.get(value) != rows:  # for the first image only
            self._source_rows[value] = rows
            self._positions[value][:] = _interpolation(rows, height)

    def _check_import(self, name: str, tensor: NDArray[Any], fits: bool) -> None:
        """Refuse what ONNX Runtime computed where its shape is not the one that ONNX inferred."""
        if not fits or tensor.dtype != np.float32:
            size = f"{self._rows.width}x{self._rows.height}"
            msg = f"the tensor {name} has the shape {tensor.shape} for an image of {size} pixels, which does not fit"
            raise InputError(msg, "use --backend ort-cpu")

    def _shape(self, value: int) -> tuple[int, ...]:
        channels, height, width = self._program.channels[value], self._rows.height, self._rows.width
        boundary = self._program.boundaries[value]
        halves = (max((side + 1) // 2 - it, 0) for side, it in zip((height, width), boundary.first, strict=True))
        return {
            BoundaryKind.NCHW: (channels, height, width),
            BoundaryKind.ROWS: (height, self._rows.row_floats(channels, 0, channel_major=False)),
            BoundaryKind.INTERP_ROWS: (channels, height, width),  # at most; the number of rows is known when they come
            BoundaryKind.EVERY_SECOND: (channels, *halves),
            BoundaryKind.ROW_SUMS: (height, channels),
            BoundaryKind.PER_CHANNEL: (channels, 1, 1),
        }[boundary.kind]

    def _floats(self, value: int) -> int:
        """Return the size of a value, including what vectors read beyond the last row."""
        return whole_lines(math.prod(self._shape(value)) + self._rows.columns - self._rows.width)


def _largest(arrays: Sequence[Floats]) -> Floats:
    """Return the largest of each number of several arrays of one shape."""
    found = arrays[0].copy()
    for it in arrays[1:]:
        np.maximum(found, it, out=found)
    return found


def _interpolation(rows: int, height: int) -> NDArray[np.int64]:
    """Return the positions of ``height`` rows between ``rows``: (height, 3), the row before, the row behind, a weight.

    The weight of the row behind is the bit pattern of a float32. Positions are those of ONNX's Resize with half_pixel.
    """
    position = ((np.arange(height) + 0.5) * (rows / height) - 0.5).clip(0, rows - 1)
    before = position.astype(np.int64)
    weight = (position - before).astype(np.float32).view(np.int32)
    return np.stack([before, np.minimum(before + 1, rows - 1), weight.astype(np.int64)], axis=1)

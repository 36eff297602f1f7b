"""The native engine as a backend."""

import os
import sys
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np
import psutil

from lkdn_deploy.backends.io import check_result, check_window
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import Bytes, Floats, Program, UnsupportedError, require
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import InputError, LkdnError, MissingError
from lkdn_deploy.core.limits import cores
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import Part, RangeUse, SequentialSession

if TYPE_CHECKING:
    from lkdn_deploy.backends.native.compile import CompiledNetwork
    from lkdn_deploy.backends.native.executor import Executor
    from lkdn_deploy.backends.native.fixed.usage import RangeRecord

_LARGEST_MINIMUM = 1 << 30
"""Bytes that a window of ``_SMALL`` pixels a side may take: no smaller ones are tried where memory lacks."""

_SMALL, _USUAL = 64, 300

_UNHELD = 2
"""References to an array that only its list holds: that one, and the argument of the function that counts them."""


class NativeSession(SequentialSession):
    """An artefact on the native engine, in float32 or in 16-bit fixed point.

    In fixed point, a window in which a value reached the end of its range, so that it may be wrong, is computed again
    in float32, and so is a batch whose values are not within -1 and 1.

    Args:
        artifact: the file's content.
        threads: number of threads to use; by default one for each physical core that the process may use.
        fixed_point: whether to compute in fixed point. The first time, the ranges of the values are measured, and
            results are compared with float32.

    Raises:
        InputError: if the file is not an ONNX file, or the network has operations without kernels.
        MissingError: if a package is missing, or the processor has no code for fixed point.
    """

    backend = "native-cpu"

    def __init__(self, artifact: Artifact, threads: int | None = None, *, fixed_point: bool = False) -> None:
        with needs("native"):
            from lkdn_deploy.backends.native.compile import CompiledNetwork
            from lkdn_deploy.backends.native.executor import Executor
            from lkdn_deploy.jit.compiler import processor
        self.metadata = artifact.metadata
        self._threads = threads or _physical_cores()
        try:
            program = import_program(artifact.data)
            self._network = CompiledNetwork(program, processor())
            self._fixed = self._quantised(program, artifact.data) if fixed_point else None
            need = self.window_bytes(_SMALL, _SMALL)
            require(need <= _LARGEST_MINIMUM, f"a network that takes {need >> 20} MiB for {_SMALL}x{_SMALL} pixels")
        except UnsupportedError as error:
            msg = f"{artifact.path}: the native engine does not support {error}"
            hint = "leave out --precision int16" if fixed_point else "use --backend ort-cpu or openvino"
            raise InputError(msg, hint) from error
        except LkdnError as error:
            msg = f"{artifact.path}: {error.message}"
            raise type(error)(msg, error.hint) from error
        if fixed_point:
            self.metadata = replace(self.metadata, precision="int16")
        self.fixed_size = program.fixed_size
        self.window_step, self.window_halo = self._network.window_step, self._network.window_halo
        self._make_executor = Executor
        self._start()
        _SESSIONS.add(self)

    def _quantised(self, program: Program, data: bytes) -> tuple["CompiledNetwork", "RangeRecord"]:
        """Return a program in fixed point as code, and the record of how far its values reach.

        Raises:
            UnsupportedError: if it has operations that fixed point does not have, or too large differences.
            MissingError: if the processor has no code for it.
        """
        from lkdn_deploy.backends.native.compile import CompiledNetwork, fixed_obstacle
        from lkdn_deploy.backends.native.fixed.prepared import prepared
        from lkdn_deploy.backends.native.fixed.quantise import check_quantisable
        from lkdn_deploy.backends.native.fixed.usage import RangeRecord
        from lkdn_deploy.jit.compiler import processor

        target = processor()
        if (obstacle := fixed_obstacle(target)) is not None:
            msg = f"the native engine does not support {obstacle}"
            raise MissingError(msg, "leave out --precision int16")
        check_quantisable(program)
        fixed = prepared(program, data, self._network, target, self._threads)
        return CompiledNetwork(fixed.program, target, fixed), RangeRecord(fixed)

    def _start(self) -> None:
        """Make what belongs to one process. After a fork, the child has none of the parent's threads."""
        self._executor: Executor | None = None
        """For the last size and network: an image has tiles of one size, and few are computed again in float32."""
        self._executes: CompiledNetwork | None = None
        self._last: list[Floats] = []
        """The last result of ``run``, in case nobody holds it."""
        self._pool = ThreadPoolExecutor(max(self._threads - 1, 1), "lkdn-native")
        self._lock = Lock()
        """Held during a run: two would share the executor's memory."""

    def run(self, batch: Floats) -> Floats:
        """Upscale (N, 3, H, W), RGB in 0..1, to (N, 3, scale * H, scale * W), not clipped; see ``Session.run``.

        The memory of the last result is used again once nobody holds that any more. To obtain and clear new pages would
        take a tenth of the time.
        """
        return self._run(batch, self._last, shared=False)

    def run_many(self, batches: Iterable[Floats]) -> Generator[Floats, None, None]:
        """Upscale each batch when its result is asked for; see ``Session.run_many``.

        All results of one size share memory.
        """
        last: list[Floats] = []
        for batch in batches:
            yield self._run(batch, last, shared=True)

    def fill(self, batch: Floats, kept: Part, place: Bytes) -> None:
        """Write pixels as ``PixelSession.fill`` does, without a float32 image in between."""
        with self._locked(batch):
            self._write(batch[0], kept, place)

    def range_use(self) -> RangeUse | None:
        """Return how the ranges of fixed point were used since the last call; see ``Session.range_use``."""
        return None if self._fixed is None else self._fixed[1].take()

    def _run(self, batch: Floats, last: list[Floats], *, shared: bool) -> Floats:
        """Upscale into the array in ``last``, or a new one, which replaces it.

        A new one is made where the shape differs, or, unless results are ``shared``, something else holds the array.
        """
        with self._locked(batch) as shape:
            if not last or last[0].shape != shape or not (shared or sys.getrefcount(last[0]) == _UNHELD):
                last.clear()  # frees the old array before the new one is allocated
                last.append(np.empty(shape, np.float32))
            for image, target in zip(batch, last[0], strict=True):
                self._write(image, np.s_[:, :], target)
            return last[0]

    def _write(self, image: Floats, part: Part, target: Floats | Bytes) -> None:
        """Write a part of the result of one image: in fixed point, where that is asked for and its ranges suffice."""
        if self._fixed is not None:
            network, record = self._fixed
            inside = bool(image.min(initial=0) >= -1 and image.max(initial=0) <= 1)  # false for NaN, too
            if inside:
                executor = self._executor_of(network, image)
                executor.run(image, part, target, self._pool)
                inside = record.add(executor.extremes(), as_pixels=target.dtype == np.uint8)
            else:
                record.add_outside()
            if inside:
                return
        self._executor_of(self._network, image).run(image, part, target, self._pool)

    def _executor_of(self, network: "CompiledNetwork", image: Floats) -> "Executor":
        """Return the executor of a network for images of this size."""
        size = height, width = image.shape[1:]
        if self._executor is None or self._executor.size != size or self._executes is not network:
            self._executor = None  # frees its memory before the new one is made
            self._executor = self._make_executor(network, height, width, self._threads)
            self._executes = network
        return self._executor

    @contextmanager
    def _locked(self, batch: Floats) -> Iterator[tuple[int, ...]]:
        """Yield the shape of the result for a batch, for one run at a time."""
        check_window(self.fixed_size, batch)
        height, width = batch.shape[2:]
        try:
            with self._lock:
                self.check_open()
                shape = (len(batch), 3, self._network.scale * height, self._network.scale * width)
                check_result(self.metadata.scale, batch.shape, shape)
                yield shape
        except MemoryError as error:
            msg = f"{self.backend} ran out of memory on a window of {width}x{height} pixels"
            raise InputError(msg, "use smaller tiles") from error

    def close(self) -> None:
        """Release memory, threads and compiled code, after a run that is under way; see ``Session.close``."""
        with self._lock:
            if self.closed:
                return
            super().close()
            _SESSIONS.discard(self)
            self._executor = self._executes = self._fixed = None
            self._last.clear()
            self._pool.shutdown()
            self._network.fallback.close()
            del self._network

    def bytes_per_pixel(self) -> int:
        """Return ``window_bytes`` for each pixel of a window of usual size."""
        return -(-self.window_bytes(_USUAL, _USUAL) // _USUAL**2)

    def window_bytes(self, height: int, width: int) -> int:
        """Return the memory that ``fill`` takes for a window, in bytes; ``run`` allocates the result too, and keeps it.

        Rows are filled up to whole vectors, which is most of the memory of a narrow window.
        """
        self.check_open()
        networks = [self._network] if self._fixed is None else [self._network, self._fixed[0]]
        parts = [it.memory(width) for it in networks]  # never in memory together
        return max(4 * (constant + min(self._threads, height) * band + height * row) for constant, band, row in parts)


_SESSIONS: WeakSet[NativeSession] = WeakSet()


def _start_all() -> None:
    for session in list(_SESSIONS):
        session._start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all)


def open_native(artifact: Artifact, *, threads: int | None = None) -> NativeSession:
    """Open an artefact on the CPU."""
    return NativeSession(artifact, threads)


def open_int16(artifact: Artifact, *, threads: int | None = None) -> NativeSession:
    """Open an artefact on the CPU, in 16-bit fixed point."""
    return NativeSession(artifact, threads, fixed_point=True)


def _physical_cores() -> int:
    """Return the cores that this process may use: kernels leave no gaps for a second hardware thread of a core."""
    allowed = cores()
    return min(allowed, psutil.cpu_count(logical=False) or allowed)

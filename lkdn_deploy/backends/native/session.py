"""The native engine as a backend."""

import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

import numpy as np
import psutil

from lkdn_deploy.backends.io import check_result, check_window
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import Bytes, Floats, UnsupportedError, require
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.limits import cores
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import Part, SequentialSession

if TYPE_CHECKING:
    from lkdn_deploy.backends.native.executor import Executor

_LARGEST_MINIMUM = 1 << 30
"""Bytes that a window of ``_SMALL`` pixels a side may take: no smaller ones are tried where memory lacks."""

_SMALL, _USUAL = 64, 300


class NativeSession(SequentialSession):
    """An artefact on the native engine.

    Args:
        artifact: the file's content.
        threads: number of threads to use; by default one for each physical core that the process may use.

    Raises:
        InputError: if the file is not an ONNX file, or the network has operations without kernels.
        MissingError: if a package is missing.
    """

    backend = "native-cpu"

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        with needs("native"):
            from lkdn_deploy.backends.native.compile import CompiledNetwork
            from lkdn_deploy.backends.native.executor import Executor
            from lkdn_deploy.jit.compiler import processor
        self.metadata = artifact.metadata
        self._threads = threads or _physical_cores()
        try:
            program = import_program(artifact.data)
            self._network = CompiledNetwork(program, processor())
            need = self.window_bytes(_SMALL, _SMALL)
            require(need <= _LARGEST_MINIMUM, f"a network that takes {need >> 20} MiB for {_SMALL}x{_SMALL} pixels")
        except UnsupportedError as error:
            msg = f"{artifact.path}: the native engine does not support {error}"
            raise InputError(msg, "use --backend ort-cpu or openvino") from error
        except LkdnError as error:
            msg = f"{artifact.path}: {error.message}"
            raise type(error)(msg, error.hint) from error
        self.fixed_size = program.fixed_size
        self._make_executor = Executor
        self._start()
        _SESSIONS.add(self)

    def _start(self) -> None:
        """Make what belongs to one process. After a fork, the child has none of the parent's threads."""
        self._executor: Executor | None = None
        """For the last size: an image has tiles of one size."""
        self._pool = ThreadPoolExecutor(max(self._threads - 1, 1), "lkdn-native")
        self._lock = Lock()
        """Held during a run: two would share the executor's memory."""

    def run(self, batch: Floats) -> Floats:
        """Upscale (N, 3, H, W), RGB in 0..1, to (N, 3, scale * H, scale * W), not clipped; see ``Session.run``."""
        return self._run(batch, [])

    def run_many(self, batches: Iterable[Floats]) -> Generator[Floats, None, None]:
        """Upscale each batch when its result is asked for; see ``Session.run_many``.

        All results of one size share memory. To obtain and clear new pages for each would take a tenth of the time.
        """
        last: list[Floats] = []
        for batch in batches:
            yield self._run(batch, last)

    def fill(self, batch: Floats, kept: Part, place: Bytes) -> None:
        """Write pixels as ``PixelSession.fill`` does, without a float32 image in between."""
        with self._executor_for(batch) as (executor, _):
            executor.run(batch[0], kept, place, self._pool)

    def _run(self, batch: Floats, last: list[Floats]) -> Floats:
        """Upscale into the array in ``last``, or a new one, which replaces it, where the shape differs."""
        with self._executor_for(batch) as (executor, shape):
            if not last or last[0].shape != shape:
                last.clear()  # frees the old array before the new one is allocated
                last.append(np.empty(shape, np.float32))
            for image, target in zip(batch, last[0], strict=True):
                executor.run(image, np.s_[:, :], target, self._pool)
            return last[0]

    @contextmanager
    def _executor_for(self, batch: Floats) -> Iterator[tuple["Executor", tuple[int, ...]]]:
        """Yield the executor for this size, for one run at a time, and the shape of the result."""
        check_window(self.fixed_size, batch)
        height, width = batch.shape[2:]
        try:
            with self._lock:
                self.check_open()
                shape = (len(batch), 3, self._network.scale * height, self._network.scale * width)
                check_result(self.metadata.scale, batch.shape, shape)
                if self._executor is None or self._executor.size != (height, width):
                    self._executor = None  # frees its memory before the new one is made
                    self._executor = self._make_executor(self._network, height, width, self._threads)
                yield self._executor, shape
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
            self._executor = None
            self._pool.shutdown()
            self._network.fallback.close()
            del self._network

    def bytes_per_pixel(self) -> int:
        """Return ``window_bytes`` for each pixel of a window of usual size."""
        return -(-self.window_bytes(_USUAL, _USUAL) // _USUAL**2)

    def window_bytes(self, height: int, width: int) -> int:
        """Return the memory that ``fill`` takes for a window, in bytes; ``run`` allocates the result too.

        Rows are filled up to whole vectors, which is most of the memory of a narrow window.
        """
        self.check_open()
        fixed, band, row = self._network.memory(width)
        return 4 * (fixed + min(self._threads, height) * band + height * row)


_SESSIONS: WeakSet[NativeSession] = WeakSet()


def _start_all() -> None:
    for session in list(_SESSIONS):
        session._start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all)


def open_native(artifact: Artifact, *, threads: int | None = None) -> NativeSession:
    """Open an artefact on the CPU."""
    return NativeSession(artifact, threads)


def _physical_cores() -> int:
    """Return the cores that this process may use: kernels leave no gaps for a second hardware thread of a core."""
    allowed = cores()
    return min(allowed, psutil.cpu_count(logical=False) or allowed)

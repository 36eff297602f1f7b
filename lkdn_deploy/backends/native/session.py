"""The native engine as a backend: LKDN and its like on the CPU, by kernels made for them and for the processor."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import psutil

from lkdn_deploy.backends.io import check_result, check_window
from lkdn_deploy.backends.native.frontend.importer import read_program
from lkdn_deploy.backends.native.ir import Bytes, Floats, UnsupportedError
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import Part, SequentialSession
from lkdn_deploy.core.threads import cores

if TYPE_CHECKING:
    from lkdn_deploy.backends.native.executor import Workspace

_INSTEAD = "use --backend ort-cpu or openvino"

# Beside what ``Engine.bytes_per_pixel`` counts: the rows of a pass, and columns that fill up whole vectors. Both grow
# with a side of the window only. Measured as memory allocated in a run, at 300x300: 1.13 times.
_OVERHEAD = 1.2


def _fresh(shape: tuple[int, ...]) -> Floats:
    return np.empty(shape, np.float32)


class _Memory:
    """Of the last shape that was asked for."""

    def __init__(self) -> None:
        self._last = _fresh((0,))

    def __call__(self, shape: tuple[int, ...]) -> Floats:
        if self._last.shape != shape:
            self._last = _fresh((0,))  # before the next is made
            self._last = _fresh(shape)
        return self._last


class NativeSession(SequentialSession):
    """An artefact on the native engine."""

    backend = "native-cpu"

    def __init__(self, artifact: Artifact, threads: int | None = None) -> None:
        with needs("native"):
            from lkdn_deploy.backends.native.compile import Engine
            from lkdn_deploy.backends.native.executor import Workspace
            from lkdn_deploy.jit.compiler import processor
        self.metadata = artifact.metadata
        try:
            program = read_program(artifact.data)
        except UnsupportedError as error:
            msg = f"{artifact.path}: the native engine has nothing for {error}"
            raise InputError(msg, _INSTEAD) from error
        except LkdnError as error:
            msg = f"{artifact.path}: {error.message}"
            raise type(error)(msg, error.hint) from error
        self.fixed_size = program.size
        self._threads = threads or _cores()
        self._engine = Engine(program, processor())
        self._make = Workspace
        self._workspace: Workspace | None = None
        """Of the last size: an image has one size of tiles."""
        self._pool = ThreadPoolExecutor(max(self._threads - 1, 1), "lkdn-native")
        self._alone = Lock()
        """Two runs would share the workspace."""

    def run(self, batch: Floats) -> Floats:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        return self._run(batch, _fresh)

    def run_many(self, batches: Iterable[Floats]) -> Generator[Floats, None, None]:
        """``run`` of each, when its result is asked for; all of one size in the same memory.

        For the system to find and clear new memory for each would take a tenth of the time.
        """
        memory = _Memory()
        for batch in batches:
            yield self._run(batch, memory)

    def fill(self, batch: Floats, kept: Part, place: Bytes) -> None:
        """``PixelSession.fill``: no frame of floats is made, and nothing goes through memory twice."""
        with self._ready(batch) as (workspace, _):
            workspace.run(batch[0], kept, place, self._pool)

    def _run(self, batch: Floats, memory: Callable[[tuple[int, ...]], Floats]) -> Floats:
        with self._ready(batch) as (workspace, made):
            result = memory(made)
            for planes, place in zip(batch, result, strict=True):
                workspace.run(planes, (slice(0, made[2]), slice(0, made[3])), place, self._pool)
        return result

    @contextmanager
    def _ready(self, batch: Floats) -> Iterator[tuple["Workspace", tuple[int, ...]]]:
        """The workspace for windows of this size, for one run at a time, and the shape of what it makes."""
        check_window(self.fixed_size, batch)
        size = (batch.shape[2], batch.shape[3])
        made = (len(batch), 3, *(self._engine.scale * side for side in size))
        check_result(self.metadata.scale, batch.shape, made)
        try:
            with self._alone:
                if self._workspace is None or self._workspace.size != size:
                    self._workspace = None  # before the next is made
                    self._workspace = self._make(self._engine, *size, self._threads)
                yield self._workspace, made
        except MemoryError as error:
            msg = "{0} failed on a window of {2}x{1} pixels: memory ran out".format(self.backend, *size)
            raise InputError(msg, "use smaller tiles") from error

    def bytes_per_pixel(self) -> int:
        """Memory that ``fill`` takes, in bytes a LR pixel: ``run`` makes a result besides."""
        return int(self._engine.bytes_per_pixel() * _OVERHEAD)


def open_native(artifact: Artifact, *, threads: int | None = None) -> NativeSession:
    """Open on the CPU."""
    return NativeSession(artifact, threads)


def _cores() -> int:
    """Cores that this process may use: a second thread of a core gains nothing where the first leaves no gaps."""
    allowed = cores()
    return min(allowed, psutil.cpu_count(logical=False) or allowed)

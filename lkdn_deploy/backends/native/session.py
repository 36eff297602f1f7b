"""The native engine as a backend: LKDN and its like on the CPU, by kernels made for them and for the processor."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import psutil
from numpy.typing import NDArray

from lkdn_deploy.backends.native.program import UnsupportedError
from lkdn_deploy.backends.native.reading import read_program
from lkdn_deploy.backends.onnx_bytes import properties, read_artefact
from lkdn_deploy.backends.shapes import check_result, check_window
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import InTurn

_INSTEAD = "use --backend ort-cpu or openvino"

# Beside what ``Engine.bytes_per_pixel`` counts: the rows of a pass, and columns that fill up whole vectors. Both grow
# with a side of the window only. Measured as memory allocated in a run, at 300x300: 1.15 times.
_OVERHEAD = 1.2


class NativeSession(InTurn):
    """An artefact on the native engine."""

    backend = "native-cpu"

    def __init__(self, artefact: Path, threads: int | None = None) -> None:
        with needs("native"):
            from lkdn_deploy.backends.native.engine import Engine, Workspace
            from lkdn_deploy.backends.native.machine import processor
        data = read_artefact(artefact, "the native engine")
        try:
            self.metadata = ArtifactMetadata.from_props(properties(data))
            program = read_program(data)
        except UnsupportedError as error:
            msg = f"{artefact}: the native engine has nothing for {error}"
            raise InputError(msg, _INSTEAD) from error
        except LkdnError as error:
            msg = f"{artefact}: {error.message}"
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

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        check_window(self.fixed_size, batch)
        size = (batch.shape[2], batch.shape[3])
        try:
            with self._alone:
                if self._workspace is None or self._workspace.size != size:
                    self._workspace = None  # before the next is made
                    self._workspace = self._make(self._engine, *size, self._threads)
                results = [self._workspace.run(planes, self._pool) for planes in batch]
        except MemoryError as error:
            msg = "{} failed on a window of {}x{} pixels: memory ran out".format(self.backend, *size)
            raise InputError(msg, "use smaller tiles") from error
        result = results[0][None] if len(results) == 1 else np.stack(results)
        check_result(self.metadata.scale, batch, result)
        return result

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel."""
        return int(self._engine.bytes_per_pixel() * _OVERHEAD)


def open_native(artefact: Path, *, threads: int | None = None) -> NativeSession:
    """Open on the CPU."""
    return NativeSession(artefact, threads)


def _cores() -> int:
    """Cores that this process may use: a second thread of a core gains nothing where the first leaves no gaps."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)

"""OpenVINO, on the CPU.

A network with free input sizes runs slower there than one compiled for a size, and on GPUs wrong results were reported.
So each size is compiled when it is first used. The last few stay in memory, and more of them in the user's cache.
"""

import hashlib
import io
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.io import check_interface, check_result, check_window, from_output, to_input
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.optional import import_engine
from lkdn_deploy.core.protocols import SequentialSession

log = logging.getLogger(__name__)

Hint = Literal["latency", "throughput"]

_COMPILED = Store("openvino")

_IO: dict[str, Io] = {"f32": "fp32", "f16": "fp16", "u8": "uint8"}

KEPT = 4
"""Compiled sizes that stay in memory: an image has one tile size, and a folder of images few."""

AT_ONCE = 4
"""The most windows in flight for throughput."""

# Measured as the growth of resident memory over one run of 500x500: LKDN-S 1.21, LKDN 1.09 times what is alive. About
# 50 MiB of it is compiling; at 700x700 it was 1.16 and 1.07.
_OVERHEAD = 1.2


class OpenVinoSession(SequentialSession):
    """An artefact on OpenVINO's CPU device, in full float32 precision.

    Args:
        artifact: the artefact.
        threads: CPU threads; ``None``: the engine's choice.
        hint: ``latency`` gives all threads to one window. ``throughput`` divides them among up to ``AT_ONCE`` windows
            of ``run_many``, with the memory of as many; a single window then has only its share of the threads. With
            LKDN-S on 2 cores it gained 2 % at 192x192 and 7 % at 64x64, and 0 to 20 % while other programs ran.

    Raises:
        UsageError: if there is no such hint.
        MissingError: if OpenVINO is not installed.
        InputError: if OpenVINO does not take the file.
    """

    backend = "openvino-cpu"

    def __init__(self, artifact: Artifact, threads: int | None = None, hint: Hint = "latency") -> None:
        if hint not in ("latency", "throughput"):
            msg = f"no such hint: {hint}"
            raise UsageError(msg, "known are latency, throughput")
        openvino = import_engine("openvino", "openvino")
        self.metadata = artifact.metadata
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(artifact.data)
            self._io, self.fixed_size = _io_and_size(artifact, self._model)
            # On machines with bfloat16 OpenVINO would choose that by default.
            self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint.upper()}
            if threads is not None:
                self._options["INFERENCE_NUM_THREADS"] = threads
            self._at_once = 1
            if hint == "throughput":
                most = self._core.get_property("CPU", "RANGE_FOR_STREAMS")[1]
                self._at_once = min(AT_ONCE, most, threads or most)
                self._options["PERFORMANCE_HINT_NUM_REQUESTS"] = self._at_once
        except RuntimeError as error:
            msg = f"{artifact.path} cannot be opened by OpenVINO as a model"
            raise InputError(msg, _reason(error)) from error
        self._key = (hashlib.sha256(artifact.data).hexdigest(), openvino.get_version())
        self._requests: OrderedDict[tuple[int, ...], list[Any]] = OrderedDict()
        self._busy = False

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        (result,) = self.run_many([batch])
        return result

    def run_many(self, batches: Iterable[NDArray[np.float32]]) -> Generator[NDArray[np.float32], None, None]:
        """Yield ``run`` of each batch, in order; for throughput several of one size at once.

        The generator must be exhausted or closed before the session does anything else.

        Raises:
            LkdnError: as ``run`` does, when the result is asked for.
        """
        self.check_open()
        if self._busy:
            msg = "the session is in the middle of another run"
            raise UsageError(msg, "take all results of run_many first, or open another session")
        self._busy = True
        started: deque[tuple[NDArray[np.float32], Any]] = deque()
        try:
            for index, batch in enumerate(batches):
                # Another size may have to be compiled, for which memory of this one is given back.
                while started and (len(started) == self._at_once or batch.shape != started[0][0].shape):
                    yield self._finish(*started.popleft())
                started.append((batch, self._start(batch, index % self._at_once)))
            while started:
                yield self._finish(*started.popleft())
        finally:
            for _, request in started:
                with suppress(RuntimeError):  # its result is no longer wanted
                    request.wait()
            self._busy = False

    def requests(self, shape: tuple[int, ...]) -> list[Any]:
        """Return OpenVINO's ``InferRequest``s for inputs of this shape, as many as may run at once."""
        self.check_open()
        last = next(reversed(self._requests), shape)
        if last != shape:
            # Each size would keep the memory of its last run, and no memory budget accounts for their sum.
            self._requests[last][0].get_compiled_model().release_memory()
        if shape not in self._requests:
            if len(self._requests) == KEPT:
                self._requests.popitem(last=False)
            compiled = self._compiled(shape)
            self._requests[shape] = [compiled.create_infer_request() for _ in range(self._at_once)]
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def close(self) -> None:
        """Release the compiled sizes with their memory and threads; see ``Session.close``."""
        super().close()
        self._requests.clear()
        self._model = self._core = None

    def bytes_per_pixel(self) -> int:
        """Return the memory of a run, in bytes per LR pixel, for all windows in flight."""
        return int(4 * self.metadata.live_channels * _OVERHEAD * self._at_once)

    def _start(self, batch: NDArray[np.float32], place: int) -> Any:
        """Start a batch, and return the request that computes it."""
        self.check_open()
        check_window(self.fixed_size, batch)
        try:
            request = self.requests(batch.shape)[place]
            request.start_async({0: to_input(batch, self._io)})
        except RuntimeError as error:
            raise self._failure(batch, error) from error
        return request

    def _finish(self, batch: NDArray[np.float32], request: Any) -> NDArray[np.float32]:
        """Wait for a request, and copy its result: its own memory serves the next run."""
        try:
            request.wait()
        except RuntimeError as error:
            raise self._failure(batch, error) from error
        result = request.get_output_tensor(0).data
        check_result(self.metadata.scale, batch.shape, result.shape)
        values = from_output(result, self._io)
        return values.copy() if np.may_share_memory(values, result) else values

    def _failure(self, batch: NDArray[np.float32], error: RuntimeError) -> InputError:
        msg = "{0} failed on a window of {2}x{1} pixels".format(self.backend, *batch.shape[2:])
        return InputError(msg, f"if memory ran out, use smaller tiles; it said: {_reason(error)[:200]}")

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        """Return OpenVINO's ``CompiledModel`` for inputs of this shape, from the user's cache if it has one.

        LKDN-S at 320x180 takes 0.20 s to compile, 0.06 s to read and 0.01 s to write, and 1 MB. OpenVINO's own cache
        (CACHE_DIR) is not used: it does not check its files, and 10 of 31 files with one bit or block changed were run
        and gave other results. The exported model does not depend on precision, hint and threads (tried with 2026.4),
        so the cache key leaves them out.
        """
        cpu = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        name = hashlib.sha256(json.dumps((*self._key, cpu, shape)).encode()).hexdigest()
        found = _COMPILED.read(name)
        if found is not None:
            try:
                return self._core.import_model(io.BytesIO(found), "CPU", self._options)
            except RuntimeError as error:  # of another version, or for another CPU
                log.info("a cached size is compiled again: %s", _reason(error))
        self._model.reshape(list(shape))
        compiled = self._core.compile_model(self._model, "CPU", self._options)
        blob = io.BytesIO()
        try:
            compiled.export_model(blob)
        except RuntimeError as error:
            log.info("a compiled size is not cached: %s", _reason(error))
        else:
            _COMPILED.keep(name, blob.getvalue())
        return compiled


def open_openvino(artifact: Artifact, *, threads: int | None = None, hint: Hint = "latency") -> OpenVinoSession:
    """Open on the CPU; ``OpenVinoSession`` explains the arguments."""
    return OpenVinoSession(artifact, threads, hint)


def _io_and_size(artifact: Artifact, model: Any) -> tuple[Io, tuple[int, int] | None]:
    """Return the type of input and output, and the height and width of the input if they are fixed.

    Raises:
        InputError: if input and output are not those of an artefact.
    """
    inputs, outputs = ([value.element_type.to_string() for value in each] for each in (model.inputs, model.outputs))
    sides: Any = model.input(0).partial_shape if len(inputs) == 1 else ()
    shape = [side.get_length() if side.is_static else None for side in sides]
    io = check_interface(artifact.path, inputs, outputs, shape, _IO)
    height, width = shape[2:]
    return io, (height, width) if height and width else None


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's message; the first ones name its own source files."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("To facilitate")]
    return lines[-1].removeprefix("-- ") if lines else type(error).__name__

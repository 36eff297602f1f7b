"""OpenVINO, on the CPU.

A network whose sizes are free runs slower there than one compiled for a size, and on GPUs wrong results were reported.
So each size is compiled for itself when it first comes. The last few are kept in memory, and more in the user's cache.
"""

import hashlib
import io
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.onnx_bytes import read_artefact
from lkdn_deploy.backends.shapes import check_result, check_window
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import InTurn

log = logging.getLogger(__name__)

Hint = Literal["latency", "throughput"]

_COMPILED = Store("openvino")

KEPT = 4
"""Compiled sizes: an image has one size of tiles, and a folder of images few."""

AT_ONCE = 4
"""Windows on their way for throughput, at most: they share the memory that one would have for itself."""

# Measured as the growth of resident memory over one run of 500x500: LKDN-S 1.21, LKDN 1.09 times what is alive. About
# 50 MiB of it is compiling; at 700x700 it was 1.16 and 1.07.
_OVERHEAD = 1.2


class OpenVinoSession(InTurn):
    """An artefact on OpenVINO's CPU device, in full float32 precision.

    Args:
        artefact: a file of ``lkdn-export``.
        threads: of the CPU; ``None``: the engine's choice.
        hint: ``latency`` gives all threads to one window. ``throughput`` shares them among up to ``AT_ONCE`` windows
            of ``run_many``, which take so much more memory; a single one then is as slow as its share. With LKDN-S on
            2 cores it gained 2 % at 192x192 and 7 % at 64x64, and up to 20 % or nothing while other programs ran.

    Raises:
        UsageError: if there is no such hint.
        MissingError: if OpenVINO is not there.
        InputError: if the file is not an artefact.
    """

    backend = "openvino-cpu"

    def __init__(self, artefact: Path, threads: int | None = None, hint: Hint = "latency") -> None:
        if hint not in ("latency", "throughput"):
            msg = f"no such hint: {hint}"
            raise UsageError(msg, "known are latency, throughput")
        with needs("openvino"):
            import openvino
        data = read_artefact(artefact, "OpenVINO")
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(data)
            self.fixed_size = _fixed_size(artefact, self._model)
            # On machines with bfloat16 the engine would take that by itself.
            self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint.upper()}
            if threads is not None:
                self._options["INFERENCE_NUM_THREADS"] = threads
            self._at_once = 1
            if hint == "throughput":
                most = self._core.get_property("CPU", "RANGE_FOR_STREAMS")[1]
                self._at_once = min(AT_ONCE, most, threads or most)
                self._options["PERFORMANCE_HINT_NUM_REQUESTS"] = self._at_once
            self.metadata = ArtifactMetadata.from_props(_properties(self._model))
        except LkdnError as error:
            msg = f"{artefact}: {error.message}"
            raise type(error)(msg, error.hint) from error
        except RuntimeError as error:
            msg = f"{artefact} cannot be opened by OpenVINO as a model"
            raise InputError(msg, _reason(error)) from error
        self._made_from = (hashlib.sha256(data).hexdigest(), openvino.get_version())
        self._requests: OrderedDict[tuple[int, ...], list[Any]] = OrderedDict()
        self._busy = False

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        (result,) = self.run_many([batch])
        return result

    def run_many(self, batches: Iterable[NDArray[np.float32]]) -> Generator[NDArray[np.float32], None, None]:
        """``run`` of each, in order; for throughput several of one size at once.

        To be taken to the end, or closed: until then the session does nothing else.

        Raises:
            LkdnError: as ``run`` does, when the result is asked for.
        """
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
                with suppress(RuntimeError):  # nobody asks for its result any more
                    request.wait()
            self._busy = False

    def requests(self, shape: tuple[int, ...]) -> list[Any]:
        """OpenVINO's ``InferRequest``s for inputs of this shape, as many as may run at once."""
        last = next(reversed(self._requests), shape)
        if last != shape:
            # Or each size would go on holding what its run took, and their sum is no part of any budget.
            self._requests[last][0].get_compiled_model().release_memory()
        if shape not in self._requests:
            if len(self._requests) == KEPT:
                self._requests.popitem(last=False)
            compiled = self._compiled(shape)
            self._requests[shape] = [compiled.create_infer_request() for _ in range(self._at_once)]
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel: of all windows that are on their way at once."""
        return int(4 * self.metadata.live_channels * _OVERHEAD * self._at_once)

    def _start(self, batch: NDArray[np.float32], place: int) -> Any:
        """The request that computes it."""
        check_window(self.fixed_size, batch)
        try:
            request = self.requests(batch.shape)[place]
            request.start_async({0: batch})
        except RuntimeError as error:
            raise self._failure(batch, error) from error
        return request

    def _finish(self, batch: NDArray[np.float32], request: Any) -> NDArray[np.float32]:
        """Its result, once it is there; the request's own memory is for the next."""
        try:
            request.wait()
        except RuntimeError as error:
            raise self._failure(batch, error) from error
        result = np.array(request.get_output_tensor(0).data, np.float32)
        check_result(self.metadata.scale, batch.shape, result.shape)
        return result

    def _failure(self, batch: NDArray[np.float32], error: RuntimeError) -> InputError:
        msg = "{0} failed on a window of {2}x{1} pixels".format(self.backend, *batch.shape[2:])
        return InputError(msg, f"if memory ran out, use smaller tiles; it said: {_reason(error)[:200]}")

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        """OpenVINO's ``CompiledModel`` for inputs of this shape, from the user's cache if it is there.

        LKDN-S at 180x320 takes 0.20 s to compile, 0.06 s to read and 0.01 s to write, and 1 MB. OpenVINO's own cache
        (CACHE_DIR) is not used: its files are not checked, and of those with one bit or block changed, 10 in 31 were
        run and gave other results. What it exports is the network as it has rewritten it, and gives the same whatever
        precision, hint and threads that was for (tried on 2026.4): the name needs none.
        """
        cpu = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        name = hashlib.sha256(json.dumps((*self._made_from, cpu, shape)).encode()).hexdigest()
        found = _COMPILED.read(name)
        if found is not None:
            try:
                return self._core.import_model(io.BytesIO(found), "CPU", self._options)
            except RuntimeError as error:  # it looks at its version and at the CPU's instructions by itself too
                log.info("a compiled size is made again: %s", _reason(error))
        self._model.reshape(list(shape))
        compiled = self._core.compile_model(self._model, "CPU", self._options)
        blob = io.BytesIO()
        try:
            compiled.export_model(blob)
        except RuntimeError as error:
            log.info("a compiled size is not kept: %s", _reason(error))
        else:
            _COMPILED.keep(name, blob.getvalue())
        return compiled


def open_openvino(artefact: Path, *, threads: int | None = None, hint: Hint = "latency") -> OpenVinoSession:
    """Open on the CPU; see ``OpenVinoSession``."""
    return OpenVinoSession(artefact, threads, hint)


def _fixed_size(artefact: Path, model: Any) -> tuple[int, int] | None:
    kinds = [value.element_type.to_string() for value in (*model.inputs, *model.outputs)]
    if len(model.inputs) != 1 or kinds != ["f32", "f32"]:
        msg = "expected one float32 input (N, 3, H, W) and one output"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    shape = model.input(0).partial_shape
    if len(shape) != 4 or shape[1].is_dynamic or shape[1].get_length() != 3:
        msg = f"expected one float32 input (N, 3, H, W), got {shape}"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    height, width = shape[2], shape[3]
    return (height.get_length(), width.get_length()) if height.is_static and width.is_static else None


def _properties(model: Any) -> dict[str, str]:
    """The metadata of the ONNX file."""
    if not model.has_rt_info("framework"):
        return {}
    return {str(name): str(value) for name, value in model.get_rt_info("framework").value.items()}


def _reason(error: Exception) -> str:
    """What OpenVINO says in the end; its first lines name files of its own sources."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("To facilitate")]
    return lines[-1].removeprefix("-- ") if lines else type(error).__name__

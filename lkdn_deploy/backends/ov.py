"""OpenVINO, on the CPU.

A network whose sizes are free runs slower there than one compiled for a size, and on GPUs wrong results were reported.
So each size is compiled for itself when it first comes, and the last few are kept.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.onnx_bytes import read_artefact
from lkdn_deploy.backends.shapes import check_result, check_window
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import InTurn

KEPT = 4
"""Compiled sizes: an image has one size of tiles, and a folder of images few."""

# Measured as the growth of resident memory over one run of 500x500: LKDN-S 1.21, LKDN 1.09 times what is alive. About
# 50 MiB of it is compiling; at 700x700 it was 1.16 and 1.07.
_OVERHEAD = 1.2


class OpenVinoSession(InTurn):
    """An artefact on OpenVINO's CPU device, in full float32 precision."""

    backend = "openvino-cpu"

    def __init__(self, artefact: Path, threads: int | None = None) -> None:
        with needs("openvino"):
            import openvino
        data = read_artefact(artefact, "OpenVINO")
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(data)
            self.fixed_size = _fixed_size(artefact, self._model)
            # On machines with bfloat16 the engine would take that by itself.
            self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
            if threads is not None:
                self._options["INFERENCE_NUM_THREADS"] = threads
            self.metadata = ArtifactMetadata.from_props(_properties(self._model))
        except LkdnError as error:
            msg = f"{artefact}: {error.message}"
            raise type(error)(msg, error.hint) from error
        except RuntimeError as error:
            msg = f"{artefact} cannot be opened by OpenVINO as a model"
            raise InputError(msg, _reason(error)) from error
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        check_window(self.fixed_size, batch)
        try:
            result = np.asarray(next(iter(self.request(batch.shape).infer({0: batch}).values())), np.float32)
        except RuntimeError as error:
            msg = "{} failed on a window of {}x{} pixels".format(self.backend, *batch.shape[2:])
            raise InputError(msg, f"if memory ran out, use smaller tiles; it said: {_reason(error)[:200]}") from error
        check_result(self.metadata.scale, batch, result)
        return result

    def request(self, shape: tuple[int, ...]) -> Any:
        """OpenVINO's ``InferRequest`` for inputs of this shape."""
        last = next(reversed(self._requests), shape)
        if last != shape:
            # Or each size would go on holding what its run took, and their sum is no part of any budget.
            self._requests[last].get_compiled_model().release_memory()
        if shape not in self._requests:
            if len(self._requests) == KEPT:
                self._requests.popitem(last=False)
            self._model.reshape(list(shape))
            self._requests[shape] = self._core.compile_model(self._model, "CPU", self._options).create_infer_request()
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel."""
        return int(4 * self.metadata.live_channels * _OVERHEAD)


def open_openvino(artefact: Path, *, threads: int | None = None) -> OpenVinoSession:
    """Open on the CPU."""
    return OpenVinoSession(artefact, threads)


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

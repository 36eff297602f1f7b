"""OpenVINO, on the CPU.

A network whose sizes are free runs slower there than one compiled for a size, and on GPUs wrong results were reported.
So each size is compiled for itself when it first comes, and the last few are kept.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.shapes import check_result, check_window
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.optional import needs

KEPT = 4
"""Compiled sizes: an image has one size of tiles, and a folder of images few."""

_OVERHEAD = 1.6  # as of ONNX Runtime, whose blocked layout it shares


class OpenVinoSession:
    """An artefact on OpenVINO's CPU device, in full float32 precision."""

    backend = "openvino-cpu"

    def __init__(self, artefact: Path, threads: int | None = None) -> None:
        with needs("openvino"):
            import openvino
        try:
            data = artefact.read_bytes()
        except OSError as error:
            msg = f"{artefact} cannot be read: {error.strerror}"
            raise InputError(msg) from error
        self._core = openvino.Core()
        try:
            # From bytes: so a file cannot point at other files of this machine as its weights.
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
            raise InputError(msg, str(error).splitlines()[0]) from error
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        check_window(self.fixed_size, batch)
        try:
            result = np.asarray(next(iter(self.request(batch.shape).infer({0: batch}).values())), np.float32)
        except RuntimeError as error:
            msg = "{} failed on a window of {}x{} pixels".format(self.backend, *batch.shape[2:])
            raise InputError(msg, f"if memory ran out, use smaller tiles; it said: {str(error)[:200]}") from error
        check_result(self.metadata.scale, batch, result)
        return result

    def request(self, shape: tuple[int, ...]) -> Any:
        """OpenVINO's ``InferRequest`` for inputs of this shape."""
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
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.input(0).element_type.to_string() != "f32":
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

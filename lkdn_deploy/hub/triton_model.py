"""A model of Triton Inference Server's Python backend: pictures through an upscaler, in tiles where memory is short.

The ``model.py`` in a repository that ``lkdn-export --triton --backend python`` writes takes ``TritonPythonModel`` from
here, so the server's Python needs this package. Interface: https://github.com/triton-inference-server/python_backend
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_deploy.hub.loading import open_artifact
from lkdn_deploy.runtime.upscaler import Upscaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE, INPUT, OUTPUT = "model.onnx", "image", "upscaled"


class TritonPythonModel:
    """Upscales one picture a request: (H, W, C) uint8 to (scale * H, scale * W, C); C is 1 to 4, as of PNG files."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the artefact beside ``model.py``.

        Args:
            args: ``model_repository`` is the model's folder, and ``model_version`` that of its version.

        Raises:
            LkdnError: if it cannot be opened; the server then reports the model as not ready, with the reason.
        """
        self._triton: Any = import_module("triton_python_backend_utils")  # the server has it
        artifact = read_artifact(Path(args["model_repository"]) / args["model_version"] / FILE)
        self._upscaler = Upscaler(open_artifact(artifact))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with its upscaled picture, or with an error of its own."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Release the engine."""
        self._upscaler.close()

    def _answer(self, request: Any) -> Any:
        try:
            # Servers built for NumPy 1 misread arrays of NumPy 2, and the other way round; DLPack is the same for all.
            pixels: NDArray[Any] = np.from_dlpack(self._triton.get_input_tensor_by_name(request, INPUT))
            if pixels.ndim != 3 or 0 in pixels.shape or pixels.shape[2] > 4:
                msg = f"{INPUT} must be (H, W, C) with 1 to 4 channels, got {pixels.shape}"
                raise UsageError(msg)
            result = self._triton.Tensor.from_dlpack(OUTPUT, self._upscaler(pixels))
        except LkdnError as error:
            return self._triton.InferenceResponse([], self._triton.TritonError(str(error)))
        return self._triton.InferenceResponse([result])

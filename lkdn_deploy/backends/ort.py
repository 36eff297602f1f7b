"""ONNX Runtime, on the CPU or through CUDA."""

import logging
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.shapes import check_result, check_window
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError, MissingError
from lkdn_deploy.core.optional import needs

log = logging.getLogger(__name__)

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_GPU_HINT = "check the GPU, its driver and the CUDA libraries, or use --backend ort-cpu"
_NAMES = {CPU: "ort-cpu", CUDA: "ort-cuda"}

# Measured on the CPU (benchmarks/upscale.py) for LKDN: the engine's blocked layout keeps a second copy of part of what
# is alive. Its memory grows in powers of two, so other networks of the zoo took from 0.8 to 2.5 times what is alive.
_OVERHEAD = 1.6


class OrtSession:
    """An artefact on one of ONNX Runtime's execution providers, which is the one that runs it."""

    def __init__(self, artefact: Path, provider: str, threads: int | None = None) -> None:
        _refuse_both_wheels()
        with needs("cpu"):
            import onnxruntime as ort
        if provider not in ort.get_available_providers():
            msg = f"this onnxruntime has no {provider}"
            raise MissingError(msg, "pip uninstall onnxruntime; pip install 'lkdn-deploy[gpu]'")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # its warnings are for its developers; failures come as exceptions
        # The pattern planner reserves twice the memory (measured) and gains no time.
        options.enable_mem_pattern = False
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            # From bytes: so a file cannot point at other files of this machine as its weights.
            # Its own fallback to the CPU would come with a message on stdout, which is for results.
            self._session = ort.InferenceSession(
                artefact.read_bytes(), options, providers=[provider], enable_fallback=0
            )
        except OSError as error:
            msg = f"{artefact} cannot be read: {error.strerror}"
            raise InputError(msg) from error
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            if provider != CPU:
                msg = f"{provider} cannot run {artefact}: {str(error).splitlines()[0]}"
                raise MissingError(msg, _GPU_HINT) from error
            msg = f"{artefact} cannot be opened by ONNX Runtime as a model"
            raise InputError(msg, str(error).splitlines()[0]) from error
        # A provider whose libraries do not load is left out with no more than a line in the log.
        if self._session.get_providers()[0] != provider:
            msg = f"{provider} was asked for, but ONNX Runtime runs on {self._session.get_providers()[0]}"
            raise MissingError(msg, _GPU_HINT)
        self._input, self.fixed_size = _only_input(artefact, self._session)
        self.backend = _NAMES[provider]
        try:
            self.metadata = ArtifactMetadata.from_props(self._session.get_modelmeta().custom_metadata_map)
        except LkdnError as error:
            msg = f"{artefact}: {error.message}"
            raise type(error)(msg, error.hint) from error

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        check_window(self.fixed_size, batch)
        try:
            (result,) = self._session.run(None, {self._input: batch})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            msg = "{} failed on a window of {}x{} pixels".format(self.backend, *batch.shape[2:])
            raise InputError(msg, f"if memory ran out, use smaller tiles; it said: {str(error)[:200]}") from error
        check_result(self.metadata.scale, batch, result)
        return np.asarray(result, np.float32)

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel."""
        return int(4 * self.metadata.live_channels * _OVERHEAD)


def open_cpu(artefact: Path, *, threads: int | None = None) -> OrtSession:
    """Open on the CPU."""
    return OrtSession(artefact, CPU, threads)


def open_cuda(artefact: Path, *, threads: int | None = None) -> OrtSession:
    """Open on the first CUDA device, or fail: never on the CPU instead."""
    return OrtSession(artefact, CUDA, threads)


def open_best(artefact: Path, *, threads: int | None = None) -> OrtSession:
    """Open through CUDA where that works, else on the CPU."""
    with needs("cpu"):
        import onnxruntime as ort
    if CUDA in ort.get_available_providers():
        try:
            return open_cuda(artefact, threads=threads)
        except MissingError as error:
            log.warning("%s; running on the CPU", error.message)
    return open_cpu(artefact, threads=threads)


def _only_input(artefact: Path, session: Any) -> tuple[str, tuple[int, int] | None]:
    """The name of the input, and its height and width if they are fixed."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)" or inputs[0].shape[1:2] != [3]:
        msg = f"{artefact}: expected one float32 input (N, 3, H, W) and one output"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    height, width = inputs[0].shape[2:]
    return inputs[0].name, (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _refuse_both_wheels() -> None:
    """The two wheels put different files under one name; what is imported then is whichever came last."""
    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            distributions.distribution(name)
            installed.append(name)
        except distributions.PackageNotFoundError:
            continue
    if len(installed) > 1:
        msg = "onnxruntime and onnxruntime-gpu are installed together and overwrite each other's files"
        raise MissingError(msg, "pip uninstall onnxruntime onnxruntime-gpu, then install one of them")

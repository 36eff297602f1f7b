"""ONNX Runtime, on the CPU, through CUDA, or through its TensorRT provider."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from lkdn_deploy.backends.onnx_bytes import read_artefact
from lkdn_deploy.backends.shapes import check_result, check_window
from lkdn_deploy.backends.values import from_output, to_input
from lkdn_deploy.core.artifact import ArtifactMetadata, Io
from lkdn_deploy.core.errors import InputError, LkdnError, MissingError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import InTurn

CPU, CUDA, TRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_GPU_HINT = "check the GPU, its driver and the CUDA libraries, or use --backend ort-cpu"
_IO: dict[str, Io] = {"tensor(float)": "fp32", "tensor(float16)": "fp16", "tensor(uint8)": "uint8"}
_NAMES = {CPU: "ort-cpu", CUDA: "ort-cuda", TRT: "ort-trt"}

# Measured on the CPU (benchmarks/upscale.py) for LKDN: the engine's blocked layout keeps a second copy of part of what
# is alive. Its memory grows in powers of two, so other networks of the zoo took from 0.8 to 2.5 times what is alive.
_OVERHEAD = 1.6


WORTH = 50_000
"""Pixels of one size after which a session of its own for it pays: it saves a sixth of the time, and takes as long to
make as it saves on about so many (benchmarks/README.md)."""


class OrtSession(InTurn):
    """An artefact on one of ONNX Runtime's execution providers, which is the one that runs it.

    On the CPU, a size that is large or comes again and again is run by a session that knows it beforehand.
    """

    def __init__(self, artefact: Path, provider: str, threads: int | None = None) -> None:
        _refuse_both_wheels()
        with needs("cpu"):
            import onnxruntime as ort
        if provider not in ort.get_available_providers():
            msg = f"this onnxruntime has no {provider}"
            raise MissingError(msg, "pip uninstall onnxruntime; pip install 'lkdn-deploy[gpu]'")
        self._data = read_artefact(artefact, "ONNX Runtime")
        self._threads, self._provider = threads, provider
        providers = _providers(provider, self._data)
        try:
            # Its own fallback to the CPU would come with a message on stdout, which is for results.
            self._session = ort.InferenceSession(self._data, _options(threads), providers=providers, enable_fallback=0)
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
        self._input, self._io, self.fixed_size = _only_input(artefact, self._session)
        self._seen: tuple[int, ...] = ()
        """The shape of the last batch."""
        self._pixels = 0
        """How many of that shape have been run in turn."""
        self._own: Any = None
        """The session for that shape, once there are ``WORTH``."""
        self.backend = _NAMES[provider]
        self.on_cpu = provider == CPU
        try:
            self.metadata = ArtifactMetadata.from_props(self._session.get_modelmeta().custom_metadata_map)
        except LkdnError as error:
            msg = f"{artefact}: {error.message}"
            raise type(error)(msg, error.hint) from error

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        check_window(self.fixed_size, batch)
        try:
            (result,) = self._for(batch.shape).run(None, {self._input: to_input(batch, self._io)})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            msg = "{0} failed on a window of {2}x{1} pixels".format(self.backend, *batch.shape[2:])
            raise InputError(msg, f"if memory ran out, use smaller tiles; it said: {str(error)[:200]}") from error
        check_result(self.metadata.scale, batch.shape, result.shape)
        return from_output(result, self._io)

    def _for(self, shape: tuple[int, ...]) -> Any:
        """ONNX Runtime's session for inputs of this shape."""
        if shape != self._seen:
            self._seen, self._pixels, self._own = shape, 0, None  # with what memory its runs took
        self._pixels += shape[0] * shape[2] * shape[3]
        free = {place: name for place, name in enumerate(self._session.get_inputs()[0].shape) if isinstance(name, str)}
        if self._pixels < WORTH or not free or self._provider != CPU:
            return self._session
        if self._own is None:
            import onnxruntime as ort

            options = _options(self._threads)
            for place, name in free.items():
                options.add_free_dimension_override_by_name(name, shape[place])
            self._own = ort.InferenceSession(self._data, options, providers=[CPU], enable_fallback=0)
        return self._own

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel."""
        return int(4 * self.metadata.live_channels * _OVERHEAD)


def _options(threads: int | None) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3  # its warnings are for its developers; failures come as exceptions
    # The pattern planner reserves twice the memory (measured) and gains no time.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def open_cpu(artefact: Path, *, threads: int | None = None) -> OrtSession:
    """Open on the CPU."""
    return OrtSession(artefact, CPU, threads)


def open_cuda(artefact: Path, *, threads: int | None = None) -> OrtSession:
    """Open on the first CUDA device, or fail: never on the CPU instead."""
    return OrtSession(artefact, CUDA, threads)


def open_trt(artefact: Path, *, threads: int | None = None) -> OrtSession:
    """Open on the TensorRT provider; what that has no kernel for runs on CUDA. Its engines stay in the user's cache.

    The first run at each size builds an engine, which takes seconds to minutes.
    """
    return OrtSession(artefact, TRT, threads)


def has_cuda() -> bool:
    """Whether the onnxruntime that is installed is one for GPUs; there may be none all the same.

    Its library for CUDA tells. The package itself takes a fortieth of a second to import, and may not be needed.
    """
    found = find_spec("onnxruntime")
    places = (found and found.submodule_search_locations) or ()
    return any(any(Path(place, "capi").glob("*onnxruntime_providers_cuda.*")) for place in places)


def _providers(provider: str, data: bytes) -> list[Any]:
    """As ONNX Runtime takes them, with their options."""
    if provider != TRT:
        return [provider]
    # A folder a model: in one cache, the provider has taken one model's engine for another's.
    folder = platformdirs.user_cache_path("lkdn-deploy") / "ort-trt" / hashlib.sha256(data).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the cache folder {folder} cannot be made: {error.strerror}"
        raise InputError(msg, "set XDG_CACHE_HOME to a folder that can be written") from error
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }
    return [(TRT, options), CUDA]


def _only_input(artefact: Path, session: Any) -> tuple[str, Io, tuple[int, int] | None]:
    """The name of the input, what it and the output hold, and its height and width if they are fixed."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = {value.type for value in (*inputs, *outputs)}
    if len(inputs) != 1 or len(outputs) != 1 or len(kinds) != 1 or inputs[0].shape[1:2] != [3]:
        msg = f"{artefact}: expected one float32 input (N, 3, H, W) and one output"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    if (kind := kinds.pop()) not in _IO:
        msg = f"{artefact}: expected float32, float16 or uint8 values, got {kind}"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    height, width = inputs[0].shape[2:]
    fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return inputs[0].name, _IO[kind], fixed


def _refuse_both_wheels() -> None:
    """The two wheels put different files under one name; what is imported then is whichever came last."""
    from importlib import metadata as distributions  # which imports much

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

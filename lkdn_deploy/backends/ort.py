"""ONNX Runtime, on the CPU, through CUDA, or through its TensorRT provider."""

import contextlib
import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.io import check_interface, check_result, check_window, from_output, to_input
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core import cache
from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.optional import import_engine, install
from lkdn_deploy.core.protocols import SequentialSession

CPU, CUDA, TRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
RTX = "NvTensorRTRTXExecutionProvider"
GPU_HINT = "check the GPU, its driver and the CUDA libraries, or use --backend ort-cpu"
_TRT_HINT = f"""its TensorRT provider needs TensorRT 10 (libnvinfer.so.10), in an environment of its own:
{install("ort-trt")}; --backend trt uses TensorRT 11 without ONNX Runtime"""
_IO: dict[str, Io] = {"tensor(float)": "fp32", "tensor(float16)": "fp16", "tensor(uint8)": "uint8"}
_NAMES = {CPU: "ort-cpu", CUDA: "ort-cuda", TRT: "ort-trt", RTX: "ort-trt-rtx"}

# Measured on the CPU (benchmarks/upscale.py) for LKDN: the engine's blocked layout keeps a second copy of part of the
# live values. Its memory grows in powers of two, so other networks of the zoo took 0.8 to 2.5 times the live values.
_OVERHEAD = 1.6

_TRT_FOLDERS = 16
"""Models whose engines ONNX Runtime's TensorRT provider keeps in the user's cache."""

FIXED_SIZE_PIXELS = 50_000
"""Pixels of one size after which a session fixed to that size pays: it is a sixth faster, and creating it takes as long
as it saves on about this many pixels (benchmarks/README.md)."""


class OrtSession(SequentialSession):
    """An artefact on one of ONNX Runtime's execution providers, never on another one instead.

    On the CPU, an input size that is large or keeps coming is run by an inference session fixed to that size.
    """

    def __init__(
        self,
        artifact: Artifact,
        provider: str,
        threads: int | None = None,
        *,
        inner: Any = None,
        largest: tuple[int, int] | None = None,
    ) -> None:
        """Open an artefact.

        Args:
            artifact: what to run.
            provider: ONNX Runtime's name of the execution provider.
            threads: CPU threads; ``None``: the engine's choice.
            inner: a session of ONNX Runtime that is open already; ``None``: a new one.
            largest: the largest height and width that ``inner`` takes, of one picture at a time.

        Raises:
            MissingError: if the provider, its libraries or its device is missing.
            InputError: if it does not take the artefact.
        """
        _refuse_both_wheels()
        self.metadata = artifact.metadata
        self.backend, self.on_cpu = _NAMES[provider], provider == CPU
        self._data, self._threads, self._provider = artifact.data, threads, provider
        self._session = inner or _inner(artifact, provider, threads)
        # A provider whose libraries do not load is left out with no more than a line in ONNX Runtime's log.
        if self._session.get_providers()[0] != provider:
            msg = f"{provider} was asked for, but ONNX Runtime runs on {self._session.get_providers()[0]}"
            raise MissingError(msg, _TRT_HINT if provider == TRT else GPU_HINT)
        self._input, self._io, self.fixed_size, self._one_by_one = only_input(artifact.path, self._session)
        if largest is not None:
            self._one_by_one, self.largest = True, self.fixed_size or largest
        self._last_shape: tuple[int, ...] = ()
        self._pixels = 0
        """Pixels of the last shape that have been run in a row."""
        self._fixed: Any = None
        """The session fixed to the last shape, after ``FIXED_SIZE_PIXELS``."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        self.check_open()
        check_window(self.fixed_size, batch)
        if self._one_by_one and len(batch) != 1:
            msg = f"this artefact takes one image at a time, got a batch of {len(batch)}"
            raise UsageError(msg, "run them one by one, or export it without --static")
        try:
            (result,) = self._for(batch.shape).run(None, {self._input: to_input(batch, self._io)})
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            msg = "{0} failed on a window of {2}x{1} pixels".format(self.backend, *batch.shape[2:])
            raise InputError(msg, f"if memory ran out, use smaller tiles; it said: {str(error)[:200]}") from error
        check_result(self.metadata.scale, batch.shape, result.shape)
        return from_output(result, self._io)

    def _for(self, shape: tuple[int, ...]) -> Any:
        """Return ONNX Runtime's session for inputs of this shape."""
        if shape != self._last_shape:
            self._last_shape, self._pixels, self._fixed = shape, 0, None  # which frees the memory of its runs
        self._pixels += shape[0] * shape[2] * shape[3]
        free = {axis: name for axis, name in enumerate(self._session.get_inputs()[0].shape) if isinstance(name, str)}
        if self._pixels < FIXED_SIZE_PIXELS or not free or self._provider != CPU:
            return self._session
        if self._fixed is None:
            import onnxruntime as ort

            options = session_options(self._threads)
            for axis, name in free.items():
                options.add_free_dimension_override_by_name(name, shape[axis])
            self._fixed = ort.InferenceSession(self._data, options, providers=[CPU], enable_fallback=0)
        return self._fixed

    def close(self) -> None:
        """Release the engine's sessions with their memory and threads; see ``Session.close``."""
        super().close()
        self._session = self._fixed = None
        self._data, self._last_shape = b"", ()

    def bytes_per_pixel(self) -> int:
        """Return the memory of a run, in bytes per LR pixel."""
        return int(4 * self.metadata.live_channels * _OVERHEAD)


def _inner(artifact: Artifact, provider: str, threads: int | None) -> Any:
    """Return ONNX Runtime's own session."""
    ort = import_engine("onnxruntime", "cpu" if provider == CPU else "gpu")
    if provider not in ort.get_available_providers():
        msg = f"the installed onnxruntime has no {provider}"
        raise MissingError(msg, f"in a checkout of this project: pip uninstall onnxruntime; {install('gpu')}")
    if provider != CPU:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find; stdout is for results
            ort.preload_dlls()
    options, providers = session_options(threads), _providers(provider, artifact.data)
    try:
        # Its own fallback to the CPU would print to stdout, which is for results.
        return ort.InferenceSession(artifact.data, options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        if provider != CPU:
            msg = f"{provider} cannot run {artifact.path}: {str(error).splitlines()[0]}"
            raise MissingError(msg, GPU_HINT) from error
        msg = f"{artifact.path} cannot be opened by ONNX Runtime as a model"
        raise InputError(msg, str(error).splitlines()[0]) from error


def session_options(threads: int | None) -> Any:
    """Return the options that every session gets."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings are meant for its developers, and failures raise
    # The memory pattern planner reserves twice the memory (measured) and saves no time.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def open_cpu(artifact: Artifact, *, threads: int | None = None) -> OrtSession:
    """Open on the CPU."""
    return OrtSession(artifact, CPU, threads)


def open_cuda(artifact: Artifact, *, threads: int | None = None) -> OrtSession:
    """Open on the first CUDA device, or fail: never on the CPU instead."""
    return OrtSession(artifact, CUDA, threads)


def open_trt(artifact: Artifact, *, threads: int | None = None) -> OrtSession:
    """Open on the TensorRT provider; operations without a kernel there run on CUDA. Engines stay in the user's cache.

    The first run at each size builds an engine, which takes seconds to minutes.
    """
    return OrtSession(artifact, TRT, threads)


def has_cuda() -> bool:
    """Return whether the installed onnxruntime is a build for GPUs; the machine may have no GPU all the same.

    Its CUDA library tells. Importing the package would take a fortieth of a second, and may not be needed.
    """
    found = find_spec("onnxruntime")
    places = (found and found.submodule_search_locations) or ()
    return any(any(Path(place, "capi").glob("*onnxruntime_providers_cuda.*")) for place in places)


def _providers(provider: str, data: bytes) -> list[Any]:
    """Return the providers with their options, as ONNX Runtime takes them."""
    if provider != TRT:
        return [provider]
    # One folder per model: in a common one, the provider has taken one model's engine for another's.
    folder = str(cache.recent_folder("ort-trt", hashlib.sha256(data).hexdigest(), most=_TRT_FOLDERS))
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }
    return [(TRT, options), CUDA]


def only_input(artefact: Path, session: Any) -> tuple[str, Io, tuple[int, int] | None, bool]:
    """Return the input's name, the type of input and output, the fixed height and width, and whether the batch is one.

    Raises:
        InputError: if input and output are not those of an artefact, or are fixed otherwise than in whole.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = [side if isinstance(side, int) else None for side in (inputs[0].shape if inputs else ())]
    kinds = [[value.type for value in each] for each in (inputs, outputs)]
    io = check_interface(artefact, kinds[0], kinds[1], shape, _IO)
    batch, _, height, width = shape
    for fixed, what in (
        (batch not in (None, 1), f"takes batches of {batch} images only"),
        (
            (height is None) != (width is None),
            f"takes a {f'height of {height}' if height else f'width of {width}'} only",
        ),
    ):
        if fixed:
            msg = f"{artefact} {what}, which ONNX Runtime cannot change"
            raise InputError(msg, "export it for any size, or with --static WxH for one; or use --backend native")
    return inputs[0].name, io, (height, width) if height and width else None, batch == 1


def _refuse_both_wheels() -> None:
    """Refuse to run with both wheels: they install different files under one name, and the last one installed wins."""
    from importlib import metadata as distributions  # a slow import

    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            distributions.distribution(name)
            installed.append(name)
        except distributions.PackageNotFoundError:
            continue
    if len(installed) > 1:
        msg = "onnxruntime and onnxruntime-gpu are installed together and overwrite each other's files"
        raise MissingError(
            msg,
            "pip uninstall onnxruntime onnxruntime-gpu, then pip install one of them: onnxruntime-gpu has the CPU too",
        )

"""ONNX Runtime with the plugin of TensorRT for RTX, a library that is registered with any build of ONNX Runtime."""

import hashlib
from dataclasses import replace
from functools import cache as once
from typing import Any

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.ort import GPU_HINT, RTX, OrtSession, only_input, session_options
from lkdn_deploy.backends.trt.engine_spec import DEFAULT_PROFILE, Size
from lkdn_deploy.backends.trt.form import form_of, rewrites_for
from lkdn_deploy.core import cache
from lkdn_deploy.core.errors import MissingError
from lkdn_deploy.core.optional import import_engine, needs

EXTRA = "ort-trt-rtx"
GRAPHS, CACHE = "enable_cuda_graph", "nv_runtime_cache_path"
LEAST, BEST, MOST = "nv_profile_min_shapes", "nv_profile_opt_shapes", "nv_profile_max_shapes"
OPTIONS = (GRAPHS, CACHE, LEAST, BEST, MOST)
"""Names of the provider's options that are used here."""

_FOLDERS = 16
"""Networks whose compiled kernels are kept in the user's cache."""


def open_rtx(artifact: Artifact, *, threads: int | None = None) -> OrtSession:
    """Open an artefact on the first GPU, or fail: no operation runs on the CPU instead.

    The graph is rewritten as for engines of ``trt``. Pictures are taken one at a time, in the sizes of
    ``DEFAULT_PROFILE`` unless the artefact has a fixed one. Compiled kernels stay in the user's cache.

    Args:
        artifact: what to run.
        threads: CPU threads; ``None``: the engine's choice.

    Raises:
        MissingError: if the plugin, the driver or a GPU that it supports is missing, or the GPU does not run the graph.
        InputError: if input and output are not those of an artefact.
    """
    ort = import_engine("onnxruntime", EXTRA)
    device = _device(ort)
    form = replace(artifact, data=form_of(artifact, rewrites_for(artifact.metadata), EXTRA).data)
    # The options name the input, which ONNX Runtime tells of a session, on whatever it is opened.
    plain = ort.InferenceSession(form.data, session_options(threads), providers=["CPUExecutionProvider"])
    name, _, fixed, _ = only_input(artifact.path, plain)
    options = session_options(threads)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    folder = cache.recent_folder(EXTRA, hashlib.sha256(artifact.data).hexdigest(), most=_FOLDERS)
    options.add_provider_for_devices([device], provider_options(name, fixed, artifact.metadata.smallest, str(folder)))
    try:
        inner = ort.InferenceSession(form.data, options)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        msg = f"{RTX} cannot run {artifact.path}: {str(error).splitlines()[0]}"
        raise MissingError(msg, GPU_HINT) from error
    least = max(artifact.metadata.smallest, *DEFAULT_PROFILE.minimum)
    facts = artifact.metadata if fixed else replace(artifact.metadata, smallest=least)
    return OrtSession(replace(form, metadata=facts), RTX, threads, inner=inner, largest=DEFAULT_PROFILE.maximum)


def provider_options(name: str, fixed: Size | None, smallest: int, folder: str) -> dict[str, str]:
    """Return the provider's options.

    Args:
        name: the network's input.
        fixed: the only height and width that it takes; then runs are captured as CUDA graphs. ``None``: any.
        smallest: the least height and width that it takes.
        folder: where compiled kernels are kept.
    """
    if fixed:
        return {GRAPHS: "1", CACHE: folder}
    height, width = DEFAULT_PROFILE.minimum
    sizes = ((max(height, smallest), max(width, smallest)), DEFAULT_PROFILE.optimum, DEFAULT_PROFILE.maximum)
    shapes = (f"{name}:1x3x{rows}x{columns}" for rows, columns in sizes)
    return {GRAPHS: "0", CACHE: folder} | dict(zip((LEAST, BEST, MOST), shapes, strict=True))


def _device(ort: Any) -> Any:
    """Return the first device of the plugin, after registering its library.

    Raises:
        MissingError: if the package, the driver or a device is missing.
    """
    if not hasattr(ort, "register_execution_provider_library"):
        msg = f"onnxruntime {ort.__version__} takes no plugins"
        raise MissingError(msg, "in a checkout of this project: pip install 'onnxruntime>=1.23'")
    with needs(EXTRA):
        import onnxruntime_ep_nv_tensorrt_rtx as plugin
    try:
        _register(ort, plugin.get_library_path())
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        msg = f"the plugin of TensorRT for RTX does not load: {str(error).splitlines()[0]}"
        raise MissingError(msg, GPU_HINT) from error
    devices = [device for device in ort.get_ep_devices() if device.ep_name == plugin.get_ep_name()]
    if not devices:
        msg = "the plugin of TensorRT for RTX finds no GPU that it supports (sm86, sm89, sm120 or later)"
        raise MissingError(msg, GPU_HINT)
    return devices[0]


@once
def _register(ort: Any, library: str) -> None:
    ort.register_execution_provider_library(RTX, library)

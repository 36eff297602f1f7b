"""Backends by name."""

from importlib import import_module
from pathlib import Path
from typing import cast

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import Backend, Session

# Strings, so that an engine is imported only when it is asked for.
BACKENDS = {
    "auto": "lkdn_deploy.backends.ort:open_best",
    "ort-cpu": "lkdn_deploy.backends.ort:open_cpu",
    "ort-cuda": "lkdn_deploy.backends.ort:open_cuda",
    "ort-trt": "lkdn_deploy.backends.ort:open_trt",
    "openvino": "lkdn_deploy.backends.ov:open_openvino",
    "trt": "lkdn_deploy.backends.trt.session:open_trt",
}


def open_session(artefact: Path, backend: str = "auto", *, threads: int | None = None) -> Session:
    """Open ``artefact`` on a backend of ``BACKENDS``; ``auto`` takes the fastest that works here.

    Raises:
        UsageError: if there is no such backend.
        MissingError, InputError: as the backend does.
    """
    if backend not in BACKENDS:
        msg = f"no such backend: {backend}"
        raise UsageError(msg, f"known are {', '.join(BACKENDS)}")
    module, _, name = BACKENDS[backend].partition(":")
    return cast("Backend", getattr(import_module(module), name))(artefact, threads=threads)

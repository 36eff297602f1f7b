"""Backends by name."""

import logging
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import cast

from lkdn_deploy.core.errors import LkdnError, MissingError, UsageError
from lkdn_deploy.core.protocols import Backend, Session

log = logging.getLogger(__name__)

# Strings, so that an engine is imported only when it is asked for.
BACKENDS = {
    "auto": "",
    "ort-cpu": "lkdn_deploy.backends.ort:open_cpu",
    "ort-cuda": "lkdn_deploy.backends.ort:open_cuda",
    "ort-trt": "lkdn_deploy.backends.ort:open_trt",
    "native": "lkdn_deploy.backends.native.session:open_native",
    "openvino": "lkdn_deploy.backends.ov:open_openvino",
    "trt": "lkdn_deploy.backends.trt.session:open_trt",
}


Form = Callable[[Path, str], Path]
"""The file to open for an artefact on a backend."""


def open_session(
    artefact: Path, backend: str = "auto", *, threads: int | None = None, form: Form = lambda artefact, _: artefact
) -> Session:
    """Open ``artefact`` on a backend of ``BACKENDS``; ``auto`` takes the fastest that works here.

    Args:
        artefact: a file of ``lkdn-export``.
        backend: its name.
        threads: of the CPU; ``None``: the engine's choice.
        form: tells which form of the artefact the backend is given.

    Raises:
        UsageError: if there is no such backend.
        MissingError, InputError: as the backend does.
    """
    if backend not in BACKENDS:
        msg = f"no such backend: {backend}"
        raise UsageError(msg, f"known are {', '.join(BACKENDS)}")
    if backend != "auto":
        return _open(form(artefact, backend), backend, threads)
    if import_module("lkdn_deploy.backends.ort").has_cuda():
        try:
            return _open(artefact, "ort-cuda", threads)
        except MissingError as error:
            log.warning("%s; running on the CPU", error.message)
    # Which is fastest is measured in benchmarks/README.md. OpenVINO would be the second for a picture, but takes a
    # quarter of a second more to start than ONNX Runtime, and as long to compile each new size of window.
    try:
        return _open(artefact, "native", threads)
    except LkdnError as error:  # not installed, or not for this network; what else is wrong the others say, too
        log.debug("not on the native engine: %s", error.message)
    try:
        return _open(form(artefact, "ort-cpu"), "ort-cpu", threads)
    except MissingError as error:
        with suppress(MissingError):
            return _open(form(artefact, "openvino"), "openvino", threads)
        raise error from None


def _open(artefact: Path, backend: str, threads: int | None) -> Session:
    module, _, name = BACKENDS[backend].partition(":")
    return cast("Backend", getattr(import_module(module), name))(artefact, threads=threads)

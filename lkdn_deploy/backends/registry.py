"""The backends by name, and how an artefact is opened on one of them."""

import logging
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from lkdn_deploy.backends.onnx_bytes import Artifact, read_artifact, reading
from lkdn_deploy.core import cache
from lkdn_deploy.core.errors import LkdnError, MissingError, UsageError
from lkdn_deploy.core.protocols import Session

log = logging.getLogger(__name__)

# Strings, so that an engine is imported only when it is asked for.
BACKENDS = {
    "auto": "",
    "ort-cpu": "lkdn_deploy.backends.ort:open_cpu",
    "ort-cuda": "lkdn_deploy.backends.ort:open_cuda",
    "ort-trt": "lkdn_deploy.backends.ort:open_trt",
    "ort-trt-rtx": "lkdn_deploy.backends.ort_rtx:open_rtx",
    "native": "lkdn_deploy.backends.native.session:open_native",
    "openvino": "lkdn_deploy.backends.ov:open_openvino",
    "trt": "lkdn_deploy.backends.trt.session:open_trt",
}

INT16 = "int16"
"""The precision of the native engine in fixed point, which computes artefacts in fp32."""

_INT16_OPENER = "lkdn_deploy.backends.native.session:open_int16"


class Opener(Protocol):
    """A function that opens artefacts on one engine."""

    def __call__(self, artifact: Artifact, *, threads: int | None = None) -> Session:
        """Open ``artifact`` with this many threads (``None``: the engine's choice).

        Raises:
            MissingError: if the engine or its device is missing.
            InputError: if the engine does not take the file.
        """
        ...


Optimise = Callable[[Artifact, str], Artifact]
"""Returns the form of an artefact that the named backend runs fastest."""


def open_session(
    artifact: Artifact | Path,
    backend: str = "auto",
    *,
    precision: str | None = None,
    threads: int | None = None,
    optimise: Optimise = lambda artifact, _: artifact,
) -> Session:
    """Open an artefact on a backend.

    Args:
        artifact: an artefact, or the path of one.
        backend: a name of ``BACKENDS``; ``auto`` takes a TensorRT engine that is in the cache for this GPU, else the
            fastest backend that works here.
        precision: ``int16`` for the native engine in fixed point; else that of the artefact.
        threads: CPU threads; ``None``: the engine's choice.
        optimise: chooses the form of the artefact that a backend is given.

    Raises:
        UsageError: if there is no such backend, or it has no such precision.
        MissingError: if the engine or its device is missing.
        InputError: if the file is not an artefact, or the engine does not take it.
    """
    if backend not in BACKENDS:
        msg = f"no such backend: {backend}"
        raise UsageError(msg, f"known are {', '.join(BACKENDS)}")
    if isinstance(artifact, Path):
        artifact = read_artifact(artifact)
    if precision == INT16:
        if backend not in ("auto", "native"):
            msg = f"int16 is a precision of the native engine, not of {backend}"
            raise UsageError(msg, "leave out --precision int16, or ask for --backend native")
        return _opener(_INT16_OPENER)(artifact, threads=threads)
    if backend != "auto":
        return _opener(BACKENDS[backend])(optimise(artifact, backend), threads=threads)
    if (engine := _engine_in_cache(artifact, optimise)) is not None:
        return engine
    if import_module("lkdn_deploy.backends.ort").has_cuda():
        try:
            return _opener(BACKENDS["ort-cuda"])(artifact, threads=threads)
        except MissingError as error:
            log.warning("%s; running on the CPU", error.message)
    # benchmarks/README.md has the measurements behind this order. OpenVINO would be second for a single picture, but it
    # takes a quarter of a second more to start than ONNX Runtime, and as long to compile each new window size.
    try:
        return _opener(BACKENDS["native"])(artifact, threads=threads)
    except LkdnError as error:  # not installed, or not for this network; the other engines report any other fault too
        log.debug("not on the native engine: %s", error.message)
    try:
        return _opener(BACKENDS["ort-cpu"])(optimise(artifact, "ort-cpu"), threads=threads)
    except MissingError as error:
        with suppress(MissingError):
            return _opener(BACKENDS["openvino"])(optimise(artifact, "openvino"), threads=threads)
        raise error from None


def _engine_in_cache(artifact: Artifact, optimise: Optimise) -> Session | None:
    """Open a TensorRT engine of an artefact that has been built for this GPU. A build would take minutes unasked."""
    if not cache.folder("engines").is_dir():
        return None
    try:
        with reading(artifact.path):
            open_cached = import_module("lkdn_deploy.backends.trt.session").open_cached
            session = cast("Session | None", open_cached(optimise(artifact, "trt")))
    except LkdnError as error:
        log.warning("the TensorRT engine in the cache is not used: %s", error.message)
        return None
    if session is not None:
        log.info("auto: %s runs on %s, with the engine in the cache", artifact.path.name, session.backend)
    return session


def _opener(place: str) -> Opener:
    module, _, name = place.partition(":")
    opener = cast("Opener", getattr(import_module(module), name))

    def guarded(artifact: Artifact, *, threads: int | None = None) -> Session:
        with reading(artifact.path):
            return opener(artifact, threads=threads)

    return guarded

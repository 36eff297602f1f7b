"""Opens networks: the artefact is found, optimised for the backend, and opened on it."""

import logging
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.limits import cores
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.artifacts import Converting, find_artifact
from lkdn_deploy.hub.foreign import Hints
from lkdn_deploy.runtime.optimised import optimised_for

if TYPE_CHECKING:
    from fractions import Fraction

    from lkdn_deploy.runtime.upscaler import Upscaler

log = logging.getLogger(__name__)

MAX_THREADS = 256
"""Engines start as many threads as they are asked for, and thousands bring a machine down."""


def open_model(
    model: str | os.PathLike[str] | None = None,
    scale: int | None = None,
    weights: Path | None = None,
    *,
    backend: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    converting: Converting = lambda _: None,
) -> Session:
    """Open a network on a backend.

    Args:
        model: name of a network of the zoo, or path of a file, as ``find_artifact`` takes it.
        scale: upscaling factor; default 4, or that of the file.
        weights: path of a checkpoint or an ``.onnx`` file.
        backend: a name of ``lkdn_deploy.backends.registry.BACKENDS``.
        precision: ``fp32``, ``fp16``, or ``int16`` for the native engine in fixed point; default fp32, or that of the
            ``.onnx`` file.
        threads: CPU threads, 1 to 256; default: the engine's choice.
        converting: called before a checkpoint is converted.

    Raises:
        UsageError: if an argument is out of range, or as ``find_artifact`` does.
        MissingError: if the network, or the backend's package or device, is missing.
        InputError: if a file cannot be read, or the engine does not take it.
        VerificationError: if the network cannot be converted to that precision.
    """
    _check_threads(threads)
    artifact = find_artifact(model, scale, weights, precision=precision, converting=converting)
    return open_artifact(artifact, backend=backend, precision=precision, threads=threads)


def open_artifact(
    artifact: Artifact, *, backend: str = "auto", precision: str | None = None, threads: int | None = None
) -> Session:
    """Open an artefact on a backend, in the form that the backend runs fastest.

    Args:
        artifact: what ``find_artifact`` returned.
        backend: as ``open_model`` takes it.
        precision: ``int16`` for the native engine in fixed point; else that of the artefact.
        threads: as ``open_model`` takes them.

    Raises:
        UsageError: if an argument is out of range, or the backend has no such precision.
        MissingError: if the backend's package or device is missing.
        InputError: if the engine does not take the artefact.
    """
    _check_threads(threads)
    if threads is None and cores() < (os.cpu_count() or 1):
        threads = cores()  # engines see the machine's cores, not the quota of a container
    return open_session(artifact, backend, precision=precision, threads=threads, optimise=optimised_for)


def _check_threads(threads: int | None) -> None:
    """Refuse a number of threads that is not 1 to ``MAX_THREADS``.

    Raises:
        UsageError: if it is out of range.
    """
    if threads is not None and not (type(threads) is int and 1 <= threads <= MAX_THREADS):
        msg = f"threads must be a whole number from 1 to {MAX_THREADS}, got {threads!r}"
        raise UsageError(msg, "more threads than the machine has cores make it slower")


def load(
    model: str | os.PathLike[str] | None = None,
    scale: "float | str | Fraction | None" = None,
    *,
    width: int | None = None,
    height: int | None = None,
    fit: tuple[int, int] | None = None,
    value_range: float | None = None,
    bgr: bool | None = None,
    backend: str = "auto",
    precision: str | None = None,
    tile: int | None = None,
    threads: int | None = None,
    memory_budget: int | None = None,
    self_ensemble: bool = False,
    wrap: bool = False,
) -> "Upscaler":
    """Open a network for upscaling: a name, an ``.onnx`` file of ``lkdn-export`` or another program, or a checkpoint.

    Args:
        model: name of a network of the zoo, or path of a file; default lkdn-s.
        scale: upscaling factor, above 1 and at most 4, such as 2, 1.5 or ``"4/3"``; default 4, or that of the file. The
            smallest scale of the network that is no smaller is taken, and its result reduced by a bicubic filter.
        width: instead of ``scale``, the width of results in pixels. The default scale of the network is opened, and its
            result reduced.
        height: the same for the height.
        fit: the same for the width and height of a box into which results fit.
        value_range: 1 or 255, the upper end of the values of another program's ``.onnx`` file; default: found by
            trying.
        bgr: whether the colours of such a file begin with blue; default: found by trying. The log says what was found.
        backend: a name of ``lkdn_deploy.backends.registry.BACKENDS``.
        precision: ``fp32``, ``fp16``, or ``int16`` for the native engine in fixed point; default: that of the file.
        tile: side of a tile in LR pixels without its halo, as ``Upscaler`` takes it.
        threads: CPU threads, 1 to 256; default: the engine's choice, and all cores for writing files.
        memory_budget: bytes for one tile in the network, as ``Upscaler`` takes it.
        self_ensemble: whether to take the mean over all flips and rotations, which is eight times the work.
        wrap: whether pictures are textures that tile, as ``Upscaler`` takes it.

    Raises:
        LkdnError: as ``find_serving``, ``open_model``, ``EnsembleSession`` and ``Upscaler`` do.
    """
    # These import NumPy, which --help of no command needs.
    from lkdn_deploy.hub.serving import find_serving
    from lkdn_deploy.imaging.resize import OutputSize, parse_scale
    from lkdn_deploy.runtime.ensemble import EnsembleSession
    from lkdn_deploy.runtime.upscaler import Upscaler

    _check_threads(threads)
    if value_range not in (None, 1, 255):
        msg = f"value_range must be 1 or 255, got {value_range!r}"
        raise UsageError(msg)
    hints = Hints(None if value_range is None else float(value_range), bgr)
    wanted = None if scale is None else parse_scale(scale)
    size = None
    if any(value is not None for value in (wanted, width, height, fit)):
        size = OutputSize(scale=wanted, width=width, height=height, fit=fit)
    least = None if wanted is None else math.ceil(wanted)
    artifact = find_serving(model, least, precision=precision, hints=hints, told=log.info)
    session = open_artifact(artifact, backend=backend, precision=precision, threads=threads)
    return Upscaler(
        EnsembleSession(session) if self_ensemble else session,
        tile=tile,
        memory_budget=memory_budget,
        threads=threads,
        size=None if wanted == session.metadata.scale else size,
        wrap=wrap,
    )

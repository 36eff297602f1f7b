"""Checkpoints converted on the way to upscaling, kept in the user's cache."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import platformdirs

from lkdn_deploy import __version__
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError


def artefact_of(
    weights: Path, model: str | None, scale: int | None, converting: Callable[[Path], None], precision: str = "fp32"
) -> Path:
    """The artefact of a checkpoint: fused, exported and verified the first time, then found in the cache.

    Finding it needs no torch. ``converting`` is called with ``weights`` before the work.

    Raises:
        LkdnError: as ``load_checkpoint`` and ``export_onnx`` do; UsageError if it is not ``model`` or ``scale``.
    """
    digest = _digest(weights)
    wanted = "" if scale is None else f"-x{scale}"  # some weights serve several
    half = "" if precision == "fp32" else f"-{precision}"
    path = platformdirs.user_cache_path("lkdn-deploy") / f"{digest}{wanted}{half}-{__version__}.onnx"
    if _is_of(path, digest):
        return path
    converting(weights)
    from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint

    checkpoint = open_checkpoint(weights, model, scale)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the cache folder {path.parent} cannot be made: {error.strerror}"
        raise InputError(msg, "set XDG_CACHE_HOME, or use lkdn-export and give its file with --model") from error
    return export_onnx(checkpoint, path, ExportSettings(precision=precision)).path


def _is_of(path: Path, digest: str) -> bool:
    """Whether ``path`` is a working artefact of these weights: anyone may have written to the cache."""
    try:
        return open_session(path, "ort-cpu").metadata.weights_sha256 == digest
    except InputError:
        return False


def _digest(weights: Path) -> str:
    try:
        with weights.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{weights}: cannot be read: {error.strerror}"
        raise InputError(msg) from error

"""Checkpoints converted on the way to upscaling, kept in the user's cache."""

import hashlib
from pathlib import Path

import platformdirs

from lkdn_deploy import __version__
from lkdn_deploy.core.errors import InputError


def cached_artefact(weights: Path) -> Path | None:
    """The artefact made earlier from the same bytes by the same version. Needs no torch."""
    path = _path(weights)
    return path if path.is_file() else None


def convert(weights: Path, model: str | None = None, scale: int | None = None) -> Path:
    """Fuse, export and verify a checkpoint into the cache.

    Raises:
        LkdnError: as ``load_checkpoint`` and ``export_onnx`` do; UsageError if it is not ``model`` or ``scale``.
    """
    from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint

    return export_onnx(open_checkpoint(weights, model, scale), _path(weights), ExportSettings()).path


def _path(weights: Path) -> Path:
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{weights} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    return platformdirs.user_cache_path("lkdn-deploy") / f"{digest}-{__version__}.onnx"

"""Packages that only some commands need."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from lkdn_deploy.core.errors import MissingError

EXTRAS = {
    "av": "video",
    "fastapi": "serve",
    "fsspec": "ray",
    "filelock": "trt-rtx",
    "llvmlite": "native",
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "prometheus_client": "serve",
    "pydantic": "bench",
    "ray": "ray",
    "spandrel": "spandrel",
    "threadpoolctl": "native",
    "uvicorn": "serve",
    "vapoursynth": "vapoursynth",
} | dict.fromkeys(
    ("matplotlib", "onnx", "onnx_ir", "onnxscript", "pooch", "requests", "safetensors", "tensorboard", "torch"),
    "train",
)
"""The extra that installs a package, by the name that is imported."""

_TELEMETRY = "openvino_telemetry"


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn the ImportError of a package from ``extra`` into an error that names the extra to install.

    Raises:
        MissingError: in place of ImportError.
    """
    try:
        yield
    except ImportError as error:
        raise _missing(error, extra) from error


def install(extra: str) -> str:
    """Return the command that installs an extra: in a checkout, as long as no package index has a release."""
    return f"pip install '.[{extra}]'"


def missing(error: ImportError) -> MissingError | None:
    """Return the error that names the extra of a package that cannot be imported; ``None`` if no extra has it."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    return _missing(error, extra) if extra else None


def _missing(error: ImportError, extra: str) -> MissingError:
    msg = f"a package needed for this cannot be imported: {error}"
    return MissingError(msg, f"install it in a checkout of this project with: {install(extra)}")


def import_engine(package: str, extra: str) -> Any:
    """Import an inference engine without its telemetry.

    ONNX Runtime (from 1.29) and OpenVINO would write an identifier to the home folder and look up a server. A user who
    wants that sets ``ORT_DISABLE_TELEMETRY=0``, or imports ``openvino_telemetry`` first.

    Args:
        package: ``onnxruntime`` or ``openvino``.
        extra: the extra that installs it.

    Raises:
        MissingError: if it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with needs(extra), _blocked(_TELEMETRY):
        return import_module(package)


@contextmanager
def _blocked(package: str) -> Iterator[None]:
    """Make the import of a package fail, unless it has been imported already; OpenVINO does without it then."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]

"""Facts about the machine that a measurement was made on."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from lkdn_deploy import __version__
from lkdn_deploy.core.limits import cores

PACKAGES = (
    *("llvmlite", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "pillow", "tensorrt", "tensorrt-rtx"),
    "torch",
)

_GPU = {
    "name": "name",
    "driver": "driver_version",
    "memory": "memory.total",
    "clock now": "clocks.current.sm",
    "clock at most": "clocks.max.sm",
    "clock set for applications": "clocks.applications.graphics",
    "memory clock now": "clocks.current.memory",
    "power limit": "power.limit",
    "temperature": "temperature.gpu",
}
"""Fields of nvidia-smi. None tells whether clocks are locked, but a clock for applications below the most is a sign."""

_IN_ALL_VERSIONS = ("name", "driver", "memory")
"""Fields that every version of nvidia-smi knows."""

TIMEOUT = 20.0
"""Most seconds to wait for nvidia-smi."""


def machine_facts(threads: int | None = None, root: Path = Path("/")) -> dict[str, Any]:
    """Return CPU, cores, load, memory, GPUs, clocks and versions, in values that JSON can hold. Nothing is changed.

    Args:
        threads: number of threads of the measurement, to be stored beside the cores.
        root: folder that holds ``proc`` and ``sys``.
    """
    memory = psutil.virtual_memory()
    facts: dict[str, Any] = {
        "cpu": _cpu(root),
        "cores": cores(),
        "physical cores of the machine": psutil.cpu_count(logical=False),
        "load before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "memory GiB": round(memory.total / 2**30, 1),
        "free memory GiB": round(memory.available / 2**30, 1),
        "cpu clock MHz": _clock(),
        "cpu governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "gpus": gpus(),
    }
    return facts | ({} if threads is None else {"threads": threads})


def versions() -> dict[str, str]:
    """Return the version of this package, and of those of ``PACKAGES`` that are installed."""
    found = {"lkdn-deploy": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def gpus() -> list[dict[str, str]]:
    """Return nvidia-smi's facts about each GPU; an empty list where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    return _query(program, _GPU) or _query(program, {key: _GPU[key] for key in _IN_ALL_VERSIONS})


def _query(program: str, fields: Mapping[str, str]) -> list[dict[str, str]]:
    command = [program, f"--query-gpu={','.join(fields.values())}", "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[value.strip() for value in line.split(",")] for line in done.stdout.splitlines()]
    # Some versions print here that they found no device, and exit with success.
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def _cpu(root: Path) -> str:
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _clock() -> float | None:
    try:
        found = psutil.cpu_freq()
    except (OSError, NotImplementedError):
        return None
    return round(found.current) if found else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None

"""What a measurement was made on."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from lkdn_deploy import __version__
from lkdn_deploy.core.limits import cores

PACKAGES = (
    "llvmlite",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
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
"""What is asked of nvidia-smi. It does not tell whether clocks are locked; one for applications below the most is."""

_SURE = ("name", "driver", "memory")
"""What every version of it knows."""


TIMEOUT = 20.0
"""Seconds that nvidia-smi is waited for."""


def machine_facts(threads: int | None = None) -> dict[str, Any]:
    """CPU, cores, load, memory, GPUs, clocks and versions, in values that JSON can hold. Nothing is changed.

    Args:
        threads: that the measurement uses, to be written down beside the cores.
    """
    memory = psutil.virtual_memory()
    facts: dict[str, Any] = {
        "cpu": _cpu(),
        "cores": cores(),
        "physical cores of the machine": psutil.cpu_count(logical=False),
        "load before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "memory GiB": round(memory.total / 2**30, 1),
        "free memory GiB": round(memory.available / 2**30, 1),
        "cpu clock MHz": _clock(),
        "cpu governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"lkdn-deploy": __version__} | dict(_versions(PACKAGES)),
        "gpus": gpus(),
    }
    return facts | ({} if threads is None else {"threads": threads})


def gpus() -> list[dict[str, str]]:
    """What nvidia-smi says of each GPU; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    return _query(program, _GPU) or _query(program, {key: _GPU[key] for key in _SURE})


def _query(program: str, fields: Mapping[str, str]) -> list[dict[str, str]]:
    command = [program, f"--query-gpu={','.join(fields.values())}", "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, text=True, errors="replace", timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[value.strip() for value in line.split(",")] for line in done.stdout.splitlines()]
    # Some versions say there, and end well, that they found no device.
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _cpu() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _clock() -> float | None:
    try:
        found = psutil.cpu_freq()
    except (OSError, NotImplementedError):
        return None
    return round(found.current) if found else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None

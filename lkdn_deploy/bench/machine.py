"""Facts about the machine that a measurement was made on, as values and as words."""

import os
import platform
import re
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

NONE = "-"
"""Text for what is not known."""
TIMEOUT = 20.0
"""Most seconds to wait for nvidia-smi."""


def machine_facts(threads: int | None = None, root: Path = Path("/")) -> dict[str, Any]:
    """Return CPU, cores, load, memory, GPUs, clocks and versions, in values that JSON can hold. Nothing is changed.

    Args:
        threads: number of threads of the measurement, to be stored beside the cores.
        root: folder that holds ``proc`` and ``sys``.
    """
    memory, clock = psutil.virtual_memory(), None
    with suppress(OSError, NotImplementedError):
        clock = psutil.cpu_freq()
    named = re.search(r"^model name[^:\n]*:(.*)", _read(root / "proc/cpuinfo") or "", re.MULTILINE)
    found: dict[str, Any] = {
        "cpu": named[1].strip() if named else platform.processor() or platform.machine(),
        "cores": cores(),
        "physical cores of the machine": psutil.cpu_count(logical=False),
        "load before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "memory GiB": round(memory.total / 2**30, 1),
        "free memory GiB": round(memory.available / 2**30, 1),
        "cpu clock MHz": clock and round(clock.current),
        "cpu governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "gpus": gpus(),
    }
    return found if threads is None else found | {"threads": threads}


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
    # Every version of nvidia-smi knows the first three fields.
    return _query(program, _GPU) or _query(program, dict(list(_GPU.items())[:3]))


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


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return every fact of ``machine.machine_facts`` by name; nested ones have both names: ``versions numpy``."""
    found: dict[str, str] = {}
    for name, value in machine.items():
        if isinstance(value, Mapping):
            found |= {f"{name} {inner}": text for inner, text in facts(value).items()}
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            numbered = [name] if len(value) == 1 else [f"{name} {index}" for index in range(len(value))]
            found |= facts(dict(zip(numbered, value, strict=True)))
        else:
            found[name] = _words(value)
    return found


def brief(machine: Mapping[str, Any]) -> list[str]:
    """Return the facts that belong beside every latency: processor, GPUs if present, and load of the last minute."""
    known = facts(machine)
    gpus = [words for name, words in known.items() if name.startswith("gpus ") and name.endswith(" name")]
    found = {"CPU": known.get("cpu", ""), "GPU": ", ".join(gpus), "load": known.get("load before", "").split(",")[0]}
    return [f"{label} {words}" for label, words in found.items() if words not in ("", NONE)]


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{round(value, 2):g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or NONE
    return NONE if value is None else str(value)

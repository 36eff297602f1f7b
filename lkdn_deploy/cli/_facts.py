"""The facts that a report of an error needs: versions, processor, engines, memory and the cache."""

import os
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from lkdn_deploy import __version__
from lkdn_deploy.backends.ort import has_cuda
from lkdn_deploy.backends.registry import BACKENDS
from lkdn_deploy.core import cache
from lkdn_deploy.core.limits import available_memory, cores

_IMPORTED = {
    "ort-cpu": ("onnxruntime",),
    "native": ("llvmlite", "onnx"),
    "openvino": ("openvino",),
    "trt": ("tensorrt", "tensorrt_rtx"),
    "ort-trt-rtx": ("onnxruntime_ep_nv_tensorrt_rtx",),
}
"""Packages that a backend imports; trt needs one of its two."""
_FEATURES = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vnni", "amx-bf16", "neon", "sve")
"""Sets of instructions on which the code of the native engine depends, or that tell processors apart."""


def facts_for_reports() -> dict[str, str]:
    """Return what belongs to a report of an error, by name. No engine is opened and no network is asked."""
    from lkdn_deploy.bench.machine import facts, machine_facts

    found = facts(machine_facts())
    named = {"version": __version__, "installed in": str(Path(__file__).parents[2])}
    told = {name: found[name] for name in ("system", "python", "cpu")}
    told["instructions"] = _instructions()
    told["cores"] = f"{os.cpu_count()}, of which this process may use {cores()}"
    told["memory"] = f"{found['memory GiB']} GiB, of which {available_memory() / 2**30:.1f} are free"
    gpus = {name: value for name, value in found.items() if name.startswith("gpus")}
    told |= gpus if any(value != "-" for value in gpus.values()) else {"gpus": "none found by nvidia-smi"}
    return named | told | {"packages": _packages(), "backends installed": _backends(), "cache": _cache()}


def _packages() -> str:
    """Return the versions of the packages that this one or one of its extras needs, where they are installed."""
    try:
        wanted = requires("lkdn-deploy") or []
    except PackageNotFoundError:
        return "not known: this is no installation"
    names = {re.split(r"[^\w-]", each)[0] for each in wanted if "extra == 'dev'" not in each.replace('"', "'")}
    found = []
    for name in sorted(names - {"lkdn-deploy"}):
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def _instructions() -> str:
    """Return the sets of instructions that the native engine would use."""
    if find_spec("llvmlite") is None:
        return "not known without the extra native"
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    known = ", ".join(name for name in _FEATURES if features.get(name))
    return f"{binding.get_host_cpu_name()}: {known or 'none of those that matter'}"


def _backends() -> str:
    """Return the backends whose packages can be imported, without importing them."""
    return ", ".join(name for name in BACKENDS if name != "auto" and _is_installed(name)) or "none"


def _is_installed(backend: str) -> bool:
    if backend in ("ort-cuda", "ort-trt"):
        return has_cuda()
    found = [find_spec(name) is not None for name in _IMPORTED[backend]]
    return any(found) if backend == "trt" else all(found)


def _cache() -> str:
    """Return the folder of the cache with its size; it need not exist."""
    folder = cache.folder("").resolve()
    if not folder.is_dir():
        return f"{folder}, not there yet"
    files = [path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return f"{folder}, {len(files)} files of {sum(files) / 2**20:.0f} MiB"

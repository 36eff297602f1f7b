"""The GPU of this machine, as its driver describes it. No package is needed."""

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""Values of ``CUdevice_attribute`` in cuda.h."""
_RTX = frozenset({"sm75", "sm86", "sm89", "sm120", "sm121"})
"""Capabilities of GeForce and RTX GPUs. TensorRT for RTX has no kernels for the H100 (sm90) and later GPUs of data
centres; it lists the A100's sm80, but TensorRT is what is made for it."""
_LIBRARIES = ("nvcuda.dll", "nvml.dll") if sys.platform == "win32" else ("libcuda.so.1", "libnvidia-ml.so.1")


@dataclass(frozen=True, slots=True)
class Gpu:
    """The properties of a GPU that engines are bound to."""

    name: str
    capability: str
    """Compute capability such as ``sm89``."""
    driver: str
    """Version of the driver."""


def gpu_here() -> Gpu | None:
    """Return the first GPU visible to CUDA, as ``CUDA_VISIBLE_DEVICES`` sets it, or ``None`` without GPU or driver."""
    cuda, nvml = _library(_LIBRARIES[0]), _library(_LIBRARIES[1])
    if cuda is None:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    )
    if failed:
        return None
    return Gpu(name.value.decode(errors="replace"), f"sm{major.value}{minor.value}", _driver(cuda, nvml))


def extra_for(gpu: Gpu) -> str:
    """Return the extra of this package with the TensorRT that is made for a GPU: ``trt-rtx`` or ``trt``."""
    return "trt-rtx" if gpu.capability in _RTX else "trt"


def missing_gpu() -> str:
    """Return why ``gpu_here`` finds none: a missing driver, or one without a GPU."""
    try:
        ctypes.CDLL(_LIBRARIES[0])
    except OSError as error:
        return f"there is no NVIDIA driver ({error})"
    return "the NVIDIA driver finds no GPU"


def _driver(cuda: Any, nvml: Any) -> str:
    text = ctypes.create_string_buffer(96)
    if nvml is not None and not nvml.nvmlInit_v2() and not nvml.nvmlSystemGetDriverVersion(text, len(text)):
        return text.value.decode(errors="replace")
    version = ctypes.c_int()  # some containers leave NVML out: the CUDA version that the driver is for
    cuda.cuDriverGetVersion(ctypes.byref(version))
    return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None

"""Peak rates of devices for the roofline: GPUs by their vendor's documents, this machine's CPU as measured."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.optional import needs


@dataclass(frozen=True, slots=True)
class DevicePeaks:
    """The highest rates of a device."""

    name: str
    title: str
    flops: Mapping[str, float]
    """Floating-point operations per second on dense operands, by precision (``fp32``, ``fp16``).

    For a GPU, FP32 is the rate of its CUDA cores, FP16 that of its tensor cores with FP32 accumulation.
    """
    bandwidth: float
    """Bytes per second of its memory."""
    source: str
    driver_name: str = ""
    """Its name in NVIDIA's driver."""


# The figures are from these documents' tables and agree with what other pages print of them; the documents themselves
# could not be opened when this was written. Where a data sheet prints FP16 with sparsity only, dense is half of it.
_GA102 = "NVIDIA Ampere GA102 GPU Architecture white paper V2.0"
# name, title, TFLOPS in FP32 and FP16, GB/s, source, and the driver's name where it is not the title
_GPUS: tuple[tuple[str, str, float, float, float, str, str], ...] = (
    ("rtx3080", "NVIDIA GeForce RTX 3080 10 GB", 29.8, 59.5, 760, f"{_GA102}, table of the RTX 3080",
     "NVIDIA GeForce RTX 3080"),
    ("rtx3090", "NVIDIA GeForce RTX 3090", 35.6, 71, 936, f"{_GA102}, appendix A", ""),
    ("rtx4090", "NVIDIA GeForce RTX 4090", 82.6, 165.2, 1008, "NVIDIA Ada GPU Architecture white paper, appendix", ""),
    ("a6000", "NVIDIA RTX A6000", 38.7, 154.8, 768, f"{_GA102}, appendix C", ""),
    ("t4", "NVIDIA T4", 8.1, 65, 320, "NVIDIA T4 data sheet: mixed precision, 320+ GB/s", "Tesla T4"),
    ("l4", "NVIDIA L4", 30.3, 121, 300, "NVIDIA L4 data sheet: 242 TFLOPS with sparsity", ""),
    ("a100", "NVIDIA A100 80 GB SXM", 19.5, 312, 2039, "NVIDIA A100 data sheet", "NVIDIA A100-SXM4-80GB"),
    ("h100", "NVIDIA H100 SXM", 67, 989.5, 3350, "NVIDIA H100 data sheet: 1,979 TFLOPS with sparsity",
     "NVIDIA H100 80GB HBM3"),
)  # fmt: skip
DEVICES = tuple(
    DevicePeaks(name, title, {"fp32": fp32 * 1e12, "fp16": fp16 * 1e12}, bandwidth * 1e9, source, driver or title)
    for name, title, fp32, fp16, bandwidth, source, driver in _GPUS
)

_TURNS = 2**20
"""Iterations of the loop of multiply-adds: some milliseconds, beside which starting the threads does not count."""

# From "Large Kernel Distillation Network for Efficient Single Image Super-Resolution" (CVPR-W 2023), at x4. Figures are
# assigned to networks by the order of the paper's tables: its text was not available to check that, nor the size of the
# input, nor the precision.
PAPER_LATENCY: Mapping[str, float] = {"bsrn": 83.75, "vapsr": 105.82, "lkdn": 85.65}
"""Milliseconds on an RTX 3080, by the network's name in the zoo."""


def find(name: str) -> DevicePeaks:
    """Return a GPU of ``DEVICES``.

    Raises:
        UsageError: if none has this name.
    """
    for device in DEVICES:
        if device.name == name.lower():
            return device
    msg = f"no device is called {name}"
    raise UsageError(msg, f"known devices are {', '.join(device.name for device in DEVICES)}")


def recognise(driver_name: str) -> DevicePeaks | None:
    """Return the GPU of ``DEVICES`` that the driver calls so, or ``None`` if the table does not have it."""
    return next((device for device in DEVICES if device.driver_name == driver_name), None)


def measure_cpu(threads: int, *, length: int = 2**25, seconds: float = 0.5) -> DevicePeaks:
    """Measure this machine's CPU by loops that are compiled for it.

    The rate is that of fused multiply-adds on registers, in the widest vectors that the CPU has and with enough of them
    in flight to hide their latency. A library's matrix product would be too low a peak: some use half the width of some
    CPUs. The bandwidth is that of adding long arrays: two reads and one write, as the roofline counts. A cache may also
    read what is overwritten; that is ignored. FP16 gets the peak of FP32: no CPU is assumed to be faster with it.

    Takes about 2 s and 384 MiB.

    Args:
        threads: number of threads; each works on its own part of the arrays.
        length: values of each of the three arrays; the default, 128 MiB each, exceeds caches.
        seconds: least time to repeat each of the two.

    Raises:
        MissingError: without llvmlite.
    """
    with needs("bench"):
        from lkdn_deploy.jit.peaks import ALIGNMENT, peak_loops
    loops = peak_loops()
    arrays = [_ones(length, ALIGNMENT) for _ in range(3)]
    each = length // threads // loops.block  # blocks of values
    results = _ones(threads * ALIGNMENT, ALIGNMENT).reshape(threads, ALIGNMENT)
    with ThreadPoolExecutor(threads) as pool:

        def multiply() -> None:
            list(pool.map(lambda row: loops.multiply(row.ctypes.data, _TURNS), results))

        def add() -> None:
            offsets = (4 * number * each * loops.block for number in range(threads))
            list(pool.map(lambda offset: loops.add(*(array.ctypes.data + offset for array in arrays), each), offsets))

        flops = threads * _TURNS * loops.flops / _best(multiply, seconds)
        bandwidth = 3 * 4 * threads * each * loops.block / _best(add, seconds)
    title = f"CPU with {threads} thread{'s' if threads > 1 else ''}"
    return DevicePeaks("cpu", title, {"fp32": flops, "fp16": flops}, bandwidth, "measured on this machine")


def _ones(count: int, alignment: int) -> NDArray[np.float32]:
    """Return an array of ones whose address is a multiple of ``alignment`` values."""
    whole = np.ones(count + alignment, np.float32)
    skipped = -(whole.ctypes.data // whole.itemsize) % alignment
    return whole[skipped : skipped + count]


def _best(work: Callable[[], object], seconds: float) -> float:
    """Return the least time of a call in seconds, after one call that touches memory and starts threads."""
    work()
    times: list[float] = []
    while sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)

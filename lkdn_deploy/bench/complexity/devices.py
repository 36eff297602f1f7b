"""Peaks of devices, for the roofline: of GPUs as their vendor states them, of this machine's CPU as measured."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.optional import needs


@dataclass(frozen=True, slots=True)
class DevicePeaks:
    """What a device does at most."""

    name: str
    title: str
    flops: Mapping[str, float]
    """Floating-point operations a second, by precision (``fp32``, ``fp16``). Of dense operands.

    A GPU's FP32 is that of its CUDA cores, its FP16 that of its tensor cores, which sum in FP32.
    """
    bandwidth: float
    """Of its memory, in bytes a second."""
    source: str
    driver_name: str = ""
    """As NVIDIA's driver calls it."""


def _gpu(
    name: str, title: str, fp32: float, fp16: float, bandwidth: float, source: str, driver_name: str = ""
) -> DevicePeaks:
    """In TFLOPS and GB/s, as data sheets have them. The driver's name is the title, if none is given."""
    flops = {"fp32": fp32 * 1e12, "fp16": fp16 * 1e12}
    return DevicePeaks(name, title, flops, bandwidth * 1e9, source, driver_name or title)


# The figures were written down from these documents' tables as known, and agree with what other pages print of them.
# The documents themselves could not be opened when this was written. A data sheet that prints FP16 with sparsity only
# says that without it is half.
_GA102 = "NVIDIA Ampere GA102 GPU Architecture white paper V2.0"
DEVICES = (
    _gpu(
        "rtx3080",
        "NVIDIA GeForce RTX 3080 10 GB",
        29.8,
        59.5,
        760,
        f"{_GA102}, table of the RTX 3080",
        "NVIDIA GeForce RTX 3080",
    ),
    _gpu("rtx3090", "NVIDIA GeForce RTX 3090", 35.6, 71, 936, f"{_GA102}, appendix A"),
    _gpu("rtx4090", "NVIDIA GeForce RTX 4090", 82.6, 165.2, 1008, "NVIDIA Ada GPU Architecture white paper, appendix"),
    _gpu("a6000", "NVIDIA RTX A6000", 38.7, 154.8, 768, f"{_GA102}, appendix C"),
    _gpu("t4", "NVIDIA T4", 8.1, 65, 320, "NVIDIA T4 data sheet: mixed precision, 320+ GB/s", "Tesla T4"),
    _gpu("l4", "NVIDIA L4", 30.3, 121, 300, "NVIDIA L4 data sheet: 242 TFLOPS with sparsity"),
    _gpu("a100", "NVIDIA A100 80 GB SXM", 19.5, 312, 2039, "NVIDIA A100 data sheet", "NVIDIA A100-SXM4-80GB"),
    _gpu(
        "h100",
        "NVIDIA H100 SXM",
        67,
        989.5,
        3350,
        "NVIDIA H100 data sheet: 1,979 TFLOPS with sparsity",
        "NVIDIA H100 80GB HBM3",
    ),
)

# Of "Large Kernel Distillation Network for Efficient Single Image Super-Resolution" (CVPR-W 2023), at x4. Which figure
# is whose follows the order of the networks in the paper's tables: the text could not be had to check it, nor the size
# of the input, nor the precision.
PAPER_LATENCY: Mapping[str, float] = {"bsrn": 83.75, "vapsr": 105.82, "lkdn": 85.65}
"""Milliseconds on an RTX 3080, by the network's name in the zoo."""


def find(name: str) -> DevicePeaks:
    """A GPU of the table.

    Raises:
        UsageError: if there is none of this name.
    """
    for device in DEVICES:
        if device.name == name:
            return device
    msg = f"no device is called {name}"
    raise UsageError(msg, f"known are {', '.join(device.name for device in DEVICES)}")


def recognise(driver_name: str) -> DevicePeaks | None:
    """A GPU of the table by what the driver calls it; ``None``: the table does not have it."""
    return next((device for device in DEVICES if device.driver_name == driver_name), None)


SIDE = 1536
"""Of the square matrices that are multiplied."""
LENGTH = 2**25
"""Values of each of the arrays that are added: 128 MiB, three at once, more than caches hold."""
SECONDS = 0.5
"""How long each of the two is repeated, at least."""


def measure_cpu(threads: int) -> DevicePeaks:
    """This machine's CPU, by PyTorch's FP32 matrix product and its addition of long arrays. Takes about 2 s, 384 MiB.

    Half precision has the same peak: no CPU is taken to be faster with it.

    Args:
        threads: that PyTorch uses; their number is set back afterwards.

    Raises:
        MissingError: without PyTorch.
    """
    with needs("train"):
        import torch
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b, product = torch.ones(SIDE, SIDE), torch.ones(SIDE, SIDE), torch.empty(SIDE, SIDE)
        flops = 2 * SIDE**3 / _best(lambda: torch.mm(a, b, out=product))
        x, y, total = torch.ones(LENGTH), torch.ones(LENGTH), torch.empty(LENGTH)
        # Two read and one written, as the roofline counts; that a cache may first read what is overwritten is not.
        bandwidth = 3 * 4 * LENGTH / _best(lambda: torch.add(x, y, out=total))
    finally:
        torch.set_num_threads(before)
    title = f"CPU with {threads} thread{'s' if threads > 1 else ''}"
    return DevicePeaks("cpu", title, {"fp32": flops, "fp16": flops}, bandwidth, "measured on this machine")


def _best(work: Callable[[], object]) -> float:
    """The least time of a call in seconds. The first one is none: it has memory to touch and threads to start."""
    work()
    times: list[float] = []
    while sum(times) < SECONDS:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)

"""The table of devices, and the measure of this one."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lkdn_deploy.bench.complexity.devices import DEVICES, PAPER_LATENCY, DevicePeaks, find, measure_cpu
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.jit.peaks import ALIGNMENT, peak_loops
from lkdn_models.zoo import names


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_every_device_is_found_and_says_its_source(device: DevicePeaks) -> None:
    assert find(device.name) is device
    assert device.source


# CUDA cores, boost clock in MHz, FP16 FLOPs that an SM's tensor cores do a clock, SMs, bus in bits, Gbit/s a pin: other
# lines of the same documents than those that the table repeats.
BUILD = {
    "rtx3080": (8704, 1710, 512, 68, 320, 19),
    "rtx3090": (10496, 1695, 512, 82, 384, 19.5),
    "rtx4090": (16384, 2520, 512, 128, 384, 21),
    "a6000": (10752, 1800, 1024, 84, 384, 16),
    "t4": (2560, 1590, 1024, 40, 256, 10),
    "a100": (6912, 1410, 2048, 108, 5120, 3.186),
}


@pytest.mark.parametrize("name", BUILD)
def test_peaks_follow_from_how_a_gpu_is_built(name: str) -> None:
    cores, clock, tensor, multiprocessors, bus, rate = BUILD[name]
    device = find(name)
    assert device.flops["fp32"] == pytest.approx(2 * cores * clock * 1e6, rel=0.01)
    assert device.flops["fp16"] == pytest.approx(tensor * multiprocessors * clock * 1e6, rel=0.01)
    assert device.bandwidth == pytest.approx(bus / 8 * rate * 1e9, rel=0.01)


def test_an_unknown_device_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="no device is called rtx9999") as error:
        find("rtx9999")
    assert all(device.name in error.value.hint for device in DEVICES)


def test_the_paper_s_latencies_are_of_networks_of_the_zoo() -> None:
    assert set(PAPER_LATENCY) <= set(names())


def quick(threads: int) -> DevicePeaks:
    return measure_cpu(threads, length=2**16, seconds=0.01)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_cpu_has_positive_finite_peaks(threads: int) -> None:
    device = quick(threads)
    for value in (*device.flops.values(), device.bandwidth):
        assert 0 < value < math.inf
    assert device.flops["fp16"] == device.flops["fp32"]
    assert device.title == f"CPU with {threads} thread{'s' if threads > 1 else ''}"


@pytest.mark.long  # it compares times, which other programs disturb
def test_no_matrix_product_is_much_faster_than_the_peak() -> None:
    """On some CPUs a library's product uses half the width: it is no peak, and the peak must be above every one."""
    a = torch.ones(512, 512)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.mm(a, a)
        times, peaks = [], []
        for _ in range(5):  # in turn, since other programs run too
            start = time.perf_counter()
            torch.mm(a, a)
            times.append(time.perf_counter() - start)
            peaks.append(quick(1).flops["fp32"])
    finally:
        torch.set_num_threads(before)
    assert max(peaks) > 0.9 * 2 * 512**3 / min(times)


def test_the_loops_compute_what_they_are_timed_for() -> None:
    loops = peak_loops()
    result, one, other, both = (aligned(4 * loops.block) for _ in range(4))
    loops.multiply(result.ctypes.data, 40)
    accumulators = loops.flops // (loops.block // 2)
    assert np.allclose(result[: loops.block // 4], 2 * accumulators)  # each tends to 2
    one[:], other[:] = np.arange(len(one)), 0.5
    loops.add(one.ctypes.data, other.ctypes.data, both.ctypes.data, 4)
    assert np.array_equal(both, one + other)


def aligned(count: int) -> NDArray[np.float32]:
    whole = np.zeros(count + ALIGNMENT, np.float32)
    skipped = -whole.ctypes.data // 4 % ALIGNMENT
    return whole[skipped : skipped + count]


def test_the_peak_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert quick(1).bandwidth > 0


def test_without_llvm_the_cure_is_named() -> None:
    code = (
        "import sys; sys.modules['llvmlite'] = None\nfrom lkdn_deploy.core.errors import MissingError\n"
        "from lkdn_deploy.bench.complexity.devices import measure_cpu\n"
        "try:\n    measure_cpu(1)\nexcept MissingError as error:\n    print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install '.[bench]'" in done.stdout

"""The table of devices, and the measure of this one."""

import math
import sys
from contextlib import nullcontext

import pytest
import torch

from lkdn_deploy.bench.complexity.devices import DEVICES, PAPER_LATENCY, DevicePeaks, find, measure_cpu
from lkdn_deploy.core.errors import MissingError, UsageError
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
    assert error.value.hint is not None
    assert all(device.name in error.value.hint for device in DEVICES)


def test_the_paper_s_latencies_are_of_networks_of_the_zoo() -> None:
    assert set(PAPER_LATENCY) <= set(names())


def quick(threads: int) -> DevicePeaks:
    return measure_cpu(threads, side=128, length=2**16, seconds=0.01)


def test_the_cpu_has_positive_finite_peaks() -> None:
    device = quick(1)
    for value in (*device.flops.values(), device.bandwidth):
        assert 0 < value < math.inf
    assert device.flops["fp16"] == device.flops["fp32"]
    assert device.title == "CPU with 1 thread"


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_set_for_the_measurement_and_restored(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    product, seen = torch.mm, set()

    def mm(*args: object, **given: object) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        if fails:
            raise MemoryError
        return product(*args, **given)

    monkeypatch.setattr(torch, "mm", mm)
    before = torch.get_num_threads()
    with pytest.raises(MemoryError) if fails else nullcontext():
        quick(before + 1)
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


def test_without_torch_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingError) as error:
        measure_cpu(1)
    assert error.value.hint is not None
    assert ".[train]" in error.value.hint

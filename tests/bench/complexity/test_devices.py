"""The table of devices, and the measure of this one."""

import math
import sys

import pytest
import torch

from lkdn_deploy.bench.complexity import devices
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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SIDE": 128, "LENGTH": 2**16, "SECONDS": 0.01}.items():
        monkeypatch.setattr(devices, name, value)


def test_the_cpu_has_positive_finite_peaks(small: None) -> None:
    device = measure_cpu(1)
    for value in (*device.flops.values(), device.bandwidth):
        assert value > 0
        assert math.isfinite(value)
    assert device.flops["fp16"] == device.flops["fp32"]
    assert device.title == "CPU with 1 thread"


def test_it_is_measured_with_so_many_threads(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(devices, "_best", lambda work: seen.append(torch.get_num_threads()) or 1.0)
    before = torch.get_num_threads()
    measure_cpu(before + 1)
    assert seen == [before + 1] * 2
    assert torch.get_num_threads() == before


def test_the_number_of_threads_is_set_back_when_it_fails(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(work: object) -> float:
        raise MemoryError

    monkeypatch.setattr(devices, "_best", fails)
    before = torch.get_num_threads()
    with pytest.raises(MemoryError):
        measure_cpu(before + 1)
    assert torch.get_num_threads() == before


def test_without_torch_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingError) as error:
        measure_cpu(1)
    assert error.value.hint is not None
    assert "lkdn-deploy[train]" in error.value.hint

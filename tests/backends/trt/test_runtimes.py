"""The table of runtimes, and the GPU of this machine."""

import ctypes
import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from artefacts_fake import ADA
from tensorrt_fake import Behaviour, fake, install

from lkdn_deploy.backends.trt import gpu, runtimes
from lkdn_deploy.backends.trt.gpu import gpu_here
from lkdn_deploy.backends.trt.runtimes import check_targets, default_runtime, known_targets, set_targets
from lkdn_deploy.core.errors import UsageError

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


def test_no_source_asks_for_a_precision_or_a_version_outside_the_table() -> None:
    sources = list(Path(runtimes.__file__).parent.glob("*.py"))
    assert len(sources) > 5
    for path in sources:
        text = path.read_text()
        assert not re.search(r"BuilderFlag\.(?!REQUIRE_USER_ALLOCATION|TF32)|alibrat", text), path
        assert not re.search(r"if [^\n]*__version__", text), path


def test_the_runtime_is_the_one_that_can_build_here(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Behaviour(), Behaviour(rtx=True))
    assert runtimes.installed() == ("tensorrt", "tensorrt-rtx")
    assert default_runtime(has_gpu=True) == "tensorrt"
    assert default_runtime(has_gpu=False) == "tensorrt-rtx"
    install(monkeypatch, Behaviour())
    assert default_runtime(has_gpu=False) == "tensorrt"


def test_targets_are_those_of_the_module_in_rising_order() -> None:
    assert known_targets(fake(Behaviour(rtx=True))) == TARGETS
    real = pytest.importorskip("tensorrt_rtx")
    assert known_targets(real) == TARGETS
    for impossible in (("sm90",), ("sm100", "sm89"), ("sm75", "sm89")):
        with pytest.raises(UsageError):
            check_targets(real, impossible)


def test_a_target_that_the_builder_refuses_is_named() -> None:
    module = fake(Behaviour(rtx=True, refuses=("sm89",)))
    with pytest.raises(UsageError, match="refuses the target sm89"):
        set_targets(module, module.IBuilderConfig(), ("sm86", "sm89"))


class Driver:
    """``libcuda`` and NVML of a machine with one GPU."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> int:
            if name == self.failing:
                return 100
            if name == "cuDeviceGetName":
                args[0].value = b"NVIDIA GeForce RTX 4090"
            if name == "cuDeviceGetAttribute":
                args[0]._obj.value = {75: 8, 76: 9}[args[1]]
            if name == "cuDriverGetVersion":
                args[0]._obj.value = 13050
            if name == "nvmlSystemGetDriverVersion":
                args[0].value = b"595.10"
            return 0

        return call


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ("", ADA),
        ("nvmlInit_v2", dataclasses.replace(ADA, driver="CUDA 13.5")),
        ("cuInit", None),
        ("cuDeviceGet", None),
        ("cuDeviceGetName", None),
        ("cuDeviceGetAttribute", None),
    ],
)
def test_the_gpu_is_what_the_driver_reports(
    monkeypatch: pytest.MonkeyPatch, failing: str, expected: gpu.Gpu | None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver(failing))
    assert gpu_here() == expected


@pytest.mark.parametrize(
    ("capability", "extra"),
    [("sm75", "trt-rtx"), ("sm86", "trt-rtx"), ("sm89", "trt-rtx"), ("sm120", "trt-rtx"), ("sm121", "trt-rtx")]
    + [(capability, "trt") for capability in ("sm80", "sm87", "sm90", "sm100", "sm103")],
)
def test_the_tensorrt_that_is_made_for_a_gpu(capability: str, extra: str) -> None:
    assert gpu.extra_for(dataclasses.replace(ADA, capability=capability)) == extra
    if extra == "trt-rtx":
        assert capability in known_targets(fake(Behaviour(rtx=True)))


def test_make_gpu_installs_what_is_made_for_the_gpu(tmp_path: Path) -> None:
    """Without a GPU it ends before it installs anything."""
    root = Path(__file__).parents[3]
    recipe = root.joinpath("Makefile").read_text().partition("\ngpu:")[2].partition("\n\n")[0]
    assert '".[$$extra]"' in recipe
    if gpu_here() is not None:
        pytest.skip("there is a GPU here")
    done = subprocess.run([sys.executable, root / "tools" / "gpu_extra.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no NVIDIA driver" in done.stderr


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_LIBRARIES", ("nowhere.so", "nowhere.so"))
    assert gpu_here() is None
    assert "there is no NVIDIA driver" in gpu.missing_gpu()

"""The table of differences, the GPU, and what a request becomes on a machine."""

import ctypes
import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from tensorrt_fake import Behaviour, fake

import lkdn_deploy.backends.trt.gpu as gpus
from lkdn_deploy.backends.trt import runtimes
from lkdn_deploy.backends.trt.build import BuildSettings
from lkdn_deploy.backends.trt.gpu import Gpu, gpu_here
from lkdn_deploy.backends.trt.record import KINDS, Kind, Profile
from lkdn_deploy.backends.trt.resolve import DEFAULT_PROFILE, Request, choose, read_onnx, resolve, wanted_key
from lkdn_deploy.backends.trt.runtimes import RUNTIMES, choose_targets, known_targets, open_runtime
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.runtime.bundled import bundled

PACKAGE = Path(runtimes.__file__).parents[2]
ADA = Gpu("NVIDIA GeForce RTX 4090", "sm89", "595.10")
LKDN_S = bundled()["lkdn-s", 4].read_bytes()


def both(monkeypatch: pytest.MonkeyPatch, *kinds: Kind) -> None:
    """Have these runtimes installed and no other."""
    for kind, runtime in RUNTIMES.items():
        rtx = kind == "tensorrt-rtx"
        version = "1.7.1.116" if rtx else "11.5.0.7"
        module = fake(Behaviour(rtx=rtx, version=version)) if kind in kinds else None
        monkeypatch.setitem(sys.modules, runtime.module, module)
    monkeypatch.setattr(
        runtimes.importlib.util, "find_spec", lambda name: sys.modules.get(name) if "tensorrt" in name else None
    )


def test_the_table_has_every_runtime_under_its_name() -> None:
    assert tuple(RUNTIMES) == KINDS
    assert all(runtime.name == kind for kind, runtime in RUNTIMES.items())


def test_no_source_asks_for_a_precision_or_a_version_outside_the_table() -> None:
    sources = [*(PACKAGE / "backends" / "trt").glob("*.py")]
    assert len(sources) > 5
    for path in sources:
        text = path.read_text()
        assert not re.search(r"BuilderFlag|set_flag\(|alibrat", text), path
        assert not re.search(r"if [^\n]*__version__", text), path


@pytest.mark.parametrize("kind", KINDS)
def test_a_runtime_that_is_not_installed_is_named_with_its_extra(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    both(monkeypatch)
    with pytest.raises(MissingError) as caught:
        open_runtime(kind)
    assert f"lkdn-deploy[{RUNTIMES[kind].extra}]" in str(caught.value)
    with pytest.raises(MissingError, match="neither TensorRT nor TensorRT for RTX"):
        runtimes.default_kind(gpu_here=True)


def test_the_runtime_is_the_one_that_can_build_here(monkeypatch: pytest.MonkeyPatch) -> None:
    both(monkeypatch, "tensorrt", "tensorrt-rtx")
    assert runtimes.installed() == KINDS
    assert runtimes.default_kind(gpu_here=True) == "tensorrt"
    assert runtimes.default_kind(gpu_here=False) == "tensorrt-rtx"
    both(monkeypatch, "tensorrt")
    assert runtimes.default_kind(gpu_here=False) == "tensorrt"


def test_targets_are_those_of_the_module_in_rising_order() -> None:
    assert known_targets(fake(Behaviour(rtx=True))) == ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
    real = pytest.importorskip("tensorrt_rtx")
    assert known_targets(real) == ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


@pytest.mark.parametrize(
    ("targets", "said"),
    [(("sm90",), "does not build for sm90"), (("sm75", "sm86"), "serves no other GPUs"), (("sm89",), "refuses")],
)
def test_targets_that_cannot_be_are_refused(targets: tuple[str, ...], said: str) -> None:
    module = fake(Behaviour(rtx=True, refuses=("sm89",)))
    with pytest.raises(UsageError, match=said):
        choose_targets(module, module.IBuilderConfig(), targets)


def test_validity_is_told_where_it_is_known() -> None:
    module = fake(Behaviour(rtx=True))
    runtime = module.Runtime(module.ILogger())
    assert runtimes.validity("tensorrt-rtx", runtime, module, b"fake engine and more") == "valid"
    assert runtimes.validity("tensorrt-rtx", runtime, module, b"another one") == "invalid"
    assert runtimes.validity("tensorrt", None, None, b"") is None


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


def test_the_gpu_is_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver())
    assert gpu_here() == ADA
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver("nvmlInit_v2"))
    assert gpu_here() == dataclasses.replace(ADA, driver="CUDA 13.5")


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"])
def test_a_driver_that_finds_no_gpu_is_none(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Driver(failing))
    assert gpu_here() is None


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_LIBRARIES", ("nowhere.so", "nowhere.so"))
    assert gpu_here() is None


def test_an_artefact_is_read_without_an_engine() -> None:
    described = read_onnx(LKDN_S)
    assert (described.metadata.model, described.metadata.scale, described.fixed_size) == ("lkdn-s", 4, None)
    assert described.metadata.receptive_radius == 63
    assert len(described.sha256) == 64


@pytest.mark.parametrize("data", [b"", b"not a model", onnx.ModelProto().SerializeToString()])
def test_what_is_no_artefact_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        read_onnx(data)


def test_the_request_of_nothing_is_for_the_gpu_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    both(monkeypatch, "tensorrt", "tensorrt-rtx")
    described = read_onnx(LKDN_S)
    assert resolve(described, Request(), ADA) == BuildSettings("tensorrt", DEFAULT_PROFILE, ("sm89",))
    assert resolve(described, Request("tensorrt-rtx"), ADA).targets == ("sm89",)
    ahead = resolve(described, Request(targets=("sm120", "sm89", "sm89"), batch=3), None)
    assert ahead == BuildSettings("tensorrt-rtx", dataclasses.replace(DEFAULT_PROFILE, batch=3), ("sm89", "sm120"))


def test_the_least_size_is_what_the_network_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    both(monkeypatch, "tensorrt-rtx")
    described = read_onnx(LKDN_S)
    large = dataclasses.replace(described, metadata=dataclasses.replace(described.metadata, smallest=48))
    assert resolve(large, Request(), ADA).profile == Profile((48, 48), (256, 256), (512, 512))
    with pytest.raises(UsageError, match="takes 48 pixels a side or more"):
        resolve(large, Request(profile=Profile.fixed((32, 64))), ADA)


def test_an_artefact_of_one_size_makes_an_engine_of_that_size(monkeypatch: pytest.MonkeyPatch) -> None:
    both(monkeypatch, "tensorrt-rtx")
    fixed = dataclasses.replace(read_onnx(LKDN_S), fixed_size=(180, 320))
    assert resolve(fixed, Request(), ADA).profile == Profile.fixed((180, 320))
    assert resolve(fixed, Request(profile=Profile.fixed((180, 320))), ADA).profile == Profile.fixed((180, 320))
    with pytest.raises(UsageError, match="takes one picture of 320x180 pixels"):
        resolve(fixed, Request(profile=DEFAULT_PROFILE), ADA)


@pytest.mark.parametrize(
    ("request_", "gpu", "error", "said"),
    [
        (Request("tensorrt"), None, MissingError, "there is none here"),
        (Request("tensorrt", targets=("sm86",)), ADA, UsageError, "not for sm86"),
        (Request("tensorrt-rtx"), None, UsageError, "there is no GPU here"),
    ],
)
def test_what_cannot_be_built_here_is_refused(
    request_: Request, gpu: Gpu | None, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        choose(request_, gpu)


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": ()},
        {"targets": ("89",)},
        {"targets": ("sm89", "sm89")},
        {"kind": "tensorrt", "targets": ("sm86", "sm89")},
        {"kind": "openvino"},
        {"workspace": 0},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    settings = BuildSettings("tensorrt-rtx", DEFAULT_PROFILE, ("sm89",))
    with pytest.raises(UsageError):
        dataclasses.replace(settings, **changes)


def test_the_key_names_a_gpu_only_of_an_engine_that_is_bound_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    both(monkeypatch, "tensorrt", "tensorrt-rtx")
    described = read_onnx(LKDN_S)
    bound = wanted_key(described, resolve(described, Request("tensorrt"), ADA), ADA)
    assert (bound.gpu, bound.driver, bound.runtime_version) == (ADA.name, ADA.driver, "11.5.0.7")
    here = wanted_key(described, resolve(described, Request("tensorrt-rtx"), ADA), ADA)
    ahead = wanted_key(described, resolve(described, Request("tensorrt-rtx", targets=("sm89",)), None), None)
    assert here == ahead
    assert here.digest == ahead.digest

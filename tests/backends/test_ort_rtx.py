"""ONNX Runtime's plugin of TensorRT for RTX: its options, and what is said where it is missing."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from lkdn_deploy.backends import ort_rtx
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.ort import RTX, open_cpu
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import MissingError, UsageError
from lkdn_deploy.runtime.bundled import bundled

LKDN_S = bundled()["lkdn-s", 4]
BATCH = np.random.default_rng(0).random((1, 3, 32, 40), np.float32)
GPU = SimpleNamespace(ep_name=RTX)


class Options(ort.SessionOptions):  # type: ignore[misc]
    """Options that note what the plugin would get."""

    given: dict[str, str]
    devices: list[Any]
    entries: dict[str, str]

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        Options.devices, Options.given = devices, options

    def add_session_config_entry(self, name: str, value: str) -> None:
        Options.entries = {name: value}


class Inner(ort.InferenceSession):  # type: ignore[misc]
    """A session on the CPU that says that it is on the plugin."""

    def get_providers(self) -> list[str]:
        return [RTX]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Puts a plugin in place that has these devices; returns the list of libraries that are registered."""

    def install(*devices: Any, error: str = "") -> list[str]:
        registered: list[str] = []

        def register(_name: str, library: str) -> None:
            if error:
                raise RuntimeError(error)
            registered.append(library)

        module = ModuleType("onnxruntime_ep_nv_tensorrt_rtx")
        module.get_library_path = lambda: "plugin.so"  # type: ignore[attr-defined]
        module.get_ep_name = lambda: RTX  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(ort, "register_execution_provider_library", register)
        monkeypatch.setattr(ort, "get_ep_devices", lambda: list(devices))
        monkeypatch.setattr(ort, "SessionOptions", Options)
        monkeypatch.setattr(ort, "InferenceSession", Inner)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        ort_rtx._register.cache_clear()
        return registered

    return install


def test_it_runs_the_rewritten_graph_of_any_size_one_by_one(plugin: Callable[..., list[str]], tmp_path: Path) -> None:
    expected = open_cpu(read_artifact(LKDN_S)).run(BATCH)
    registered = plugin(SimpleNamespace(ep_name="CPUExecutionProvider"), GPU)
    for _ in range(2):  # the library is registered once in a process
        session = open_session(LKDN_S, "ort-trt-rtx")
        np.testing.assert_allclose(session.run(BATCH), expected, atol=1e-4)
    assert registered == ["plugin.so"]
    assert (session.backend, session.on_cpu, session.largest) == ("ort-trt-rtx", False, (512, 512))
    assert session.metadata.smallest == 32
    assert Options.devices == [GPU]
    assert Options.entries == {"session.disable_cpu_ep_fallback": "1"}
    folder = Options.given.pop("nv_runtime_cache_path")
    assert Path(folder).is_relative_to(tmp_path)
    assert Options.given == {
        "enable_cuda_graph": "0",
        "nv_profile_min_shapes": "lr:1x3x32x32",
        "nv_profile_opt_shapes": "lr:1x3x256x256",
        "nv_profile_max_shapes": "lr:1x3x512x512",
    }
    with pytest.raises(UsageError, match="one image at a time"):
        session.run(np.repeat(BATCH, 2, axis=0))


def test_graphs_are_for_one_size() -> None:
    assert ort_rtx.provider_options("lr", (180, 320), 1, "folder") == {
        "enable_cuda_graph": "1",
        "nv_runtime_cache_path": "folder",
    }
    assert ort_rtx.provider_options("lr", None, 48, "folder")["nv_profile_min_shapes"] == "lr:1x3x48x48"


def test_what_is_missing_is_said(plugin: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(error="libcuda.so.1: cannot open shared object file")
    with pytest.raises(MissingError, match=r"does not load: libcuda\.so\.1: cannot open.*check the GPU, its driver"):
        open_session(LKDN_S, "ort-trt-rtx")
    plugin()
    with pytest.raises(MissingError, match="finds no GPU that it supports"):
        open_session(LKDN_S, "ort-trt-rtx")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(MissingError, match=r"\.\[ort-trt-rtx\]"):
        open_session(LKDN_S, "ort-trt-rtx")
    monkeypatch.delattr(ort, "register_execution_provider_library")
    with pytest.raises(MissingError, match="takes no plugins"):
        open_session(LKDN_S, "ort-trt-rtx")


def test_the_plugin_knows_each_option() -> None:
    """By the names in its library, and in the header that comes with it."""
    real = pytest.importorskip("onnxruntime_ep_nv_tensorrt_rtx", reason="the extra ort-trt-rtx is not installed")
    library = Path(real.get_library_path())
    binary, header = library.read_bytes(), (library.parent / "tensorrt_rtx_provider_options.h").read_text()
    assert [name for name in ort_rtx.OPTIONS if name.encode() not in binary or f'"{name}"' not in header] == []
    assert real.get_ep_name() == RTX

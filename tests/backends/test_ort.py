"""ONNX Runtime for real on the CPU; a stand-in where it would need a GPU or a broken installation."""

import dataclasses
import sys
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_artefacts import METADATA, graph, noise, repeated, saved

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.ort import FIXED_SIZE_PIXELS
from lkdn_deploy.backends.registry import BACKENDS, open_session
from lkdn_deploy.core.errors import MissingError, UsageError


def tiny(path: Path, kind: int = TensorProto.FLOAT, **changes: Any) -> Path:
    """An artefact that repeats each pixel, with changed metadata."""
    model = graph(kind=kind)
    helper.set_model_props(model, dataclasses.replace(METADATA, **changes).to_props())
    model.graph.output[0].type.tensor_type.elem_type = kind
    return saved(path, model)


@pytest.mark.parametrize("backend", ["auto", "ort-cpu"])
def test_an_artefact_opens_runs_and_says_what_it_is(tmp_path: Path, backend: str) -> None:
    session = open_session(tiny(tmp_path / "a.onnx"), backend, threads=1)
    batch = noise(2, 3, 3, 5)
    assert np.array_equal(session.run(batch), repeated(batch))
    assert session.metadata == METADATA
    assert session.backend == "ort-cpu"


@pytest.mark.parametrize("backend", ["ort-cpu", "openvino"])
@pytest.mark.parametrize(("io", "kind"), [("fp16", TensorProto.FLOAT16), ("uint8", TensorProto.UINT8)])
def test_an_artefact_that_holds_other_values_is_run_with_floats_all_the_same(
    tmp_path: Path, io: Any, kind: int, backend: str
) -> None:
    session = open_session(tiny(tmp_path / "a.onnx", kind, precision="fp16", io=io), backend)
    batch = (np.arange(15, dtype=np.float32) * 17 / 255).reshape(1, 1, 3, 5).repeat(3, axis=1)
    result = session.run(batch)
    assert result.dtype == np.float32
    assert np.abs(result - repeated(batch)).max() <= (2**-11 if io == "fp16" else 1e-7)
    assert session.run(batch + 2).max() == pytest.approx(1 if io == "uint8" else batch.max() + 2, abs=1e-3)


def test_cuda_without_cuda_is_an_error_and_not_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="CUDAExecutionProvider"):
        open_session(tiny(tmp_path / "a.onnx"), "ort-cuda")


def test_an_unknown_backend_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such backend: tpu") as error:
        open_session(tiny(tmp_path / "a.onnx"), "tpu")
    assert all(name in str(error.value.hint) for name in BACKENDS)


class Session:
    """Shaped like onnxruntime.InferenceSession on a machine where CUDA works, is left out, or fails."""

    runs_on: str
    opened: ClassVar[list[list[Any]]] = []
    """The providers of each, with their options."""

    def __init__(self, model: bytes, options: object, providers: list[Any], enable_fallback: int) -> None:
        assert not enable_fallback
        self.opened.append(providers)
        providers = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        if self.runs_on == "nothing" and providers == ["CUDAExecutionProvider"]:
            msg = "CUDA failure 35: driver version is insufficient"
            raise RuntimeError(msg)
        self.providers = [self.runs_on] if self.runs_on else providers

    def get_providers(self) -> list[str]:
        return self.providers

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="lr", shape=["n", 3, "h", "w"], type="tensor(float)")]

    get_outputs = get_inputs

    def get_modelmeta(self) -> Any:
        return SimpleNamespace(custom_metadata_map=METADATA.to_props())


def with_cuda_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch, *, runs_on: str) -> None:
    module = ModuleType("onnxruntime")
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    session = type("InferenceSession", (Session,), {"runs_on": runs_on})
    for name, value in {
        "get_available_providers": lambda: providers,
        "SessionOptions": SimpleNamespace,
        "preload_dlls": lambda: None,
        "InferenceSession": session,
    }.items():
        setattr(module, name, value)
    module.__spec__ = ModuleSpec("onnxruntime", None, is_package=True)
    library = folder / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir(parents=True)
    library.touch()
    module.__spec__.submodule_search_locations = [str(library.parents[1])]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize(
    ("backend", "runs_on", "message"),
    [
        ("ort-cuda", "CPUExecutionProvider", "asked for, but ONNX Runtime runs on CPUExecutionProvider"),
        ("ort-cuda", "nothing", "driver version is insufficient"),
        ("ort-trt", "CUDAExecutionProvider", "asked for, but ONNX Runtime runs on CUDAExecutionProvider"),
    ],
)
def test_a_provider_that_does_not_start_is_an_error_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, runs_on: str, message: str
) -> None:
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on=runs_on)
    with pytest.raises(MissingError, match=message) as error:
        open_session(path, backend)
    assert (".[ort-trt]" in str(error.value.hint)) == (backend == "ort-trt")


def test_the_libraries_of_cuda_are_loaded_before_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="")
    before = len(Session.opened)
    loaded: list[int] = []
    monkeypatch.setattr(
        sys.modules["onnxruntime"],
        "preload_dlls",
        lambda: (loaded.append(len(Session.opened)), sys.stdout.write("Failed to load")),
    )
    open_session(path, "ort-cuda")
    assert loaded == [before]
    assert capsys.readouterr().out == ""


def test_auto_takes_cuda_where_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="")
    assert open_session(path, "auto").backend == "ort-cuda"


@pytest.mark.usefixtures("empty_cache")
def test_the_tensorrt_provider_keeps_its_engines_by_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tiny(tmp_path / "a.onnx"), tiny(tmp_path / "b.onnx", model="other")]
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="")
    folders = []
    for path in paths:
        assert open_session(path, "ort-trt").backend == "ort-trt"
        (name, options), fallback = Session.opened[-1]
        assert (name, fallback) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
        folders.append(Path(options["trt_engine_cache_path"]))
    assert folders[0] != folders[1]  # in one, an engine has been taken for another model's
    assert all(folder.is_dir() and folder.is_relative_to(tmp_path) for folder in folders)


def test_auto_says_so_when_it_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="CPUExecutionProvider")
    assert open_session(path, "auto").backend == "ort-cpu"
    assert "running on the CPU" in caplog.text


def test_both_wheels_together_are_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda name: name)
    with pytest.raises(MissingError, match="installed together"):
        open_session(tiny(tmp_path / "a.onnx"), "ort-cpu")


@pytest.mark.parametrize("backend", ["auto", "ort-cpu"])
def test_a_missing_onnxruntime_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match="cannot be imported") as error:
        open_session(tiny(tmp_path / "a.onnx"), backend)
    assert ".[cpu]" in str(error.value.hint)


def test_without_onnxruntime_auto_takes_openvino(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    session = open_session(tiny(tmp_path / "a.onnx"))
    assert session.backend == "openvino-cpu"
    assert session.run(np.ones((1, 3, 2, 2), np.float32)).shape == (1, 3, 4, 4)


def test_a_backend_is_given_the_form_that_is_for_it(tmp_path: Path) -> None:
    tiny(tmp_path / "ort-cpu.onnx")
    tiny(tmp_path / "openvino.onnx")
    for backend, opened in (("auto", "ort-cpu"), ("ort-cpu", "ort-cpu"), ("openvino", "openvino-cpu")):
        session = open_session(
            tmp_path / "ort-cpu.onnx", backend, optimise=lambda artifact, name: read_artifact(tmp_path / f"{name}.onnx")
        )
        assert session.backend == opened


def test_results_are_the_same_for_sizes_that_are_large_or_come_again(tmp_path: Path) -> None:
    session = open_session(tiny(tmp_path / "a.onnx"), "ort-cpu", threads=1)
    small, large = noise(1, 3, 20, 25), noise(1, 3, 200, 250)
    for batch in (small, large, *[small] * (FIXED_SIZE_PIXELS // 500), large, noise(2, 3, 20, 25)):
        assert np.array_equal(session.run(batch), repeated(batch))

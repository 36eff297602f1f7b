"""ONNX Runtime for real on the CPU; a stand-in where it would need a GPU or a broken installation."""

import dataclasses
import sys
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_artefacts import METADATA, graph, saved

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.ort import FIXED_SIZE_PIXELS, OrtSession
from lkdn_deploy.backends.registry import BACKENDS, open_session
from lkdn_deploy.core.errors import InputError, MissingError, UsageError


def tiny(path: Path, *, props: dict[str, str] | None = None, shape: tuple[Any, ...] = ("n", 3, "h", "w")) -> Path:
    """An artefact that repeats each pixel."""
    model = graph(shape)
    if props is not None:
        helper.set_model_props(model, props)
    return saved(path, model)


@pytest.mark.parametrize("backend", ["auto", "ort-cpu"])
def test_an_artefact_opens_runs_and_says_what_it_is(tmp_path: Path, backend: str) -> None:
    session = open_session(tiny(tmp_path / "a.onnx"), backend, threads=1)
    batch = np.random.default_rng(0).random((2, 3, 3, 5), np.float32)
    assert np.array_equal(session.run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))
    assert session.metadata == METADATA
    assert session.backend == "ort-cpu"


@pytest.mark.parametrize("backend", ["ort-cpu", "openvino"])
@pytest.mark.parametrize(("io", "kind"), [("fp16", TensorProto.FLOAT16), ("uint8", TensorProto.UINT8)])
def test_an_artefact_that_holds_other_values_is_run_with_floats_all_the_same(
    tmp_path: Path, io: Any, kind: int, backend: str
) -> None:
    path = tiny(tmp_path / "a.onnx", props=dataclasses.replace(METADATA, precision="fp16", io=io).to_props())
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    onnx.save(model, path)
    session = open_session(path, backend)
    batch = (np.arange(15, dtype=np.float32) * 17 / 255).reshape(1, 1, 3, 5).repeat(3, axis=1)
    result = session.run(batch)
    assert result.dtype == np.float32
    assert np.abs(result - batch.repeat(2, axis=2).repeat(2, axis=3)).max() <= (2**-11 if io == "fp16" else 1e-7)
    assert session.run(batch + 2).max() == pytest.approx(1 if io == "uint8" else batch.max() + 2, abs=1e-3)


def test_cuda_without_cuda_is_an_error_and_not_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="CUDAExecutionProvider"):
        open_session(tiny(tmp_path / "a.onnx"), "ort-cuda")


def test_an_unknown_backend_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such backend: tpu") as error:
        open_session(tiny(tmp_path / "a.onnx"), "tpu")
    assert all(name in str(error.value.hint) for name in BACKENDS)


def test_a_shape_that_a_static_artefact_does_not_take_is_refused(tmp_path: Path) -> None:
    session = open_session(tiny(tmp_path / "a.onnx", shape=(1, 3, 4, 6)), "ort-cpu")
    session.run(np.zeros((1, 3, 4, 6), np.float32))
    with pytest.raises(UsageError, match="takes 6x4 pixels only, got 4x6"):
        session.run(np.zeros((1, 3, 6, 4), np.float32))


def test_an_artefact_that_upscales_otherwise_than_it_says_is_refused(tmp_path: Path) -> None:
    lying = dataclasses.replace(METADATA, scale=3)
    session = open_session(tiny(tmp_path / "a.onnx", props=lying.to_props()))
    with pytest.raises(InputError, match=r"claims to upscale x3, but it turned \(1, 3, 2, 2\) into \(1, 3, 4, 4\)"):
        session.run(np.zeros((1, 3, 2, 2), np.float32))


def test_a_model_with_another_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one input"):
        open_session(tiny(tmp_path / "a.onnx", shape=("n", 1, "h", "w")))


def test_weights_in_another_file_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may name any file of the machine as its weights."""
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(3, np.float32).tobytes())
    path = tiny(tmp_path / "a.onnx")
    model = onnx.load(path)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    model.graph.initializer.append(tensor)
    model.graph.node.insert(0, helper.make_node("Mul", ["lr", "w"], ["scaled"]))
    model.graph.node[1].input[0] = "scaled"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"a\.onnx"):
        open_session(path)


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
        "InferenceSession": session,
    }.items():
        setattr(module, name, value)
    module.__spec__ = ModuleSpec("onnxruntime", None, is_package=True)
    library = folder / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir(parents=True)
    library.touch()
    module.__spec__.submodule_search_locations = [str(library.parents[1])]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)


def test_cuda_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="CPUExecutionProvider")
    with pytest.raises(MissingError, match="asked for, but ONNX Runtime runs on CPUExecutionProvider"):
        open_session(path, "ort-cuda")


def test_cuda_that_fails_is_an_error_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="nothing")
    with pytest.raises(MissingError, match="driver version is insufficient"):
        open_session(path, "ort-cuda")


def test_auto_takes_cuda_where_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="")
    assert open_session(path, "auto").backend == "ort-cuda"


def test_the_tensorrt_provider_keeps_its_engines_by_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = dataclasses.replace(METADATA, model="other").to_props()
    paths = [tiny(tmp_path / "a.onnx"), tiny(tmp_path / "b.onnx", props=other)]
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


def test_the_tensorrt_provider_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tiny(tmp_path / "a.onnx")
    with_cuda_wheel(tmp_path, monkeypatch, runs_on="CUDAExecutionProvider")
    with pytest.raises(MissingError, match="asked for, but ONNX Runtime runs on CUDAExecutionProvider"):
        open_session(path, "ort-trt")


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
    assert "lkdn-deploy[cpu]" in str(error.value.hint)


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


def test_a_size_that_is_large_or_comes_again_is_run_by_a_session_of_its_own(tmp_path: Path) -> None:
    session = OrtSession(read_artifact(tiny(tmp_path / "a.onnx")), "CPUExecutionProvider", threads=1)
    first = session._session
    small, large = np.ones((1, 3, 20, 25), np.float32), np.ones((1, 3, 200, 250), np.float32)
    assert session._for(small.shape) is first
    own = session._for(large.shape)
    assert own is not first
    assert own.get_inputs()[0].shape == [1, 3, 200, 250]
    assert session._for(large.shape) is own
    assert session._for(small.shape) is first
    for _ in range(FIXED_SIZE_PIXELS // 500 - 2):
        assert session._for(small.shape) is first
    assert session._for(small.shape).get_inputs()[0].shape == [1, 3, 20, 25]
    for batch in (small, large):
        assert np.array_equal(session.run(batch), batch.repeat(2, axis=2).repeat(2, axis=3))

"""Triton's repository, its configuration read by Triton's own definition of it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from lkdn_deploy.backends.trt.engine_spec import EngineSpec, Profile
from lkdn_deploy.backends.trt.record import EngineRecord, Tensor
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.export.triton import write_engine, write_onnx
from lkdn_deploy.runtime.bundled import bundled

METADATA = ArtifactMetadata(model="lkdn-s", scale=4, receptive_radius=63, live_channels=507, fused=True)


def parsed(path: Path) -> Any:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_configuration_says_what_the_graph_says(tmp_path: Path, scale: int) -> None:
    model, configuration = write_onnx(bundled()["lkdn-s", scale], tmp_path)
    assert model == tmp_path / f"lkdn-s_x{scale}" / "1" / "model.onnx"
    assert model.read_bytes() == bundled()["lkdn-s", scale].read_bytes()
    found = parsed(configuration)
    session = ort.InferenceSession(model.read_bytes())
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (found.name, found.backend, found.default_model_filename) == (f"lkdn-s_x{scale}", "onnxruntime", model.name)
    assert found.max_batch_size == 0
    for one, other in ((found.input, given), (found.output, made)):
        assert len(one) == 1
        assert one[0].name == other.name
        assert one[0].data_type == model_config_pb2.TYPE_FP32
        assert list(one[0].dims) == [size if isinstance(size, int) else -1 for size in other.shape]
    assert found.parameters["scale"].string_value == str(scale)
    assert found.parameters["value_range"].string_value == "0..1"


def test_the_python_backend_is_given_code_and_takes_pictures(tmp_path: Path) -> None:
    assert run(command, ["--triton", str(tmp_path), "--backend", "python", "--scale", "2"]) == 0
    folder = tmp_path / "lkdn-s_x2"
    found = parsed(folder / "config.pbtxt")
    assert (found.backend, found.default_model_filename) == ("python", "model.py")
    assert (folder / "1" / "model.onnx").exists()
    for one, name in ((found.input[0], "image"), (found.output[0], "upscaled")):
        assert (one.name, one.data_type, list(one.dims)) == (name, model_config_pb2.TYPE_UINT8, [-1, -1, -1])
    assert found.parameters["value_range"].string_value == "0..255"
    assert run(command, ["--onnx", "--backend", "python", "-o", str(tmp_path)]) == 2


def test_fixed_sizes_are_written_down(tmp_path: Path) -> None:
    model = onnx.load(bundled()["lkdn-s", 2])
    for value, sizes in ((model.graph.input[0], (1, 3, 24, 32)), (model.graph.output[0], (1, 3, 48, 64))):
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
            dim.dim_value = size
    onnx.save(model, tmp_path / "fixed.onnx")
    found = parsed(write_onnx(tmp_path / "fixed.onnx", tmp_path / "repository")[1])
    assert list(found.input[0].dims) == [1, 3, 24, 32]
    assert list(found.output[0].dims) == [1, 3, 48, 64]
    session = ort.InferenceSession((tmp_path / "repository" / "fixed" / "1" / "model.onnx").read_bytes())
    assert session.run(None, {"lr": np.zeros((1, 3, 24, 32), np.float32)})[0].shape == (1, 3, 48, 64)


def record(runtime: str, profile: Profile) -> EngineRecord:
    return EngineRecord(
        spec=EngineSpec(runtime, "11.1.0.106", ("sm86",), "Linux x86_64", "NVIDIA GeForce RTX 3080", profile=profile),
        metadata=METADATA,
        input=Tensor("lr", "float16"),
        output=Tensor("sr", "float16"),
        engine_sha256="1" * 64,
        audit=None,
    )


@pytest.mark.parametrize(
    ("profile", "dims", "large"),
    [
        (Profile.fixed((180, 320)), [1, 3, 180, 320], [1, 3, 720, 1280]),
        (Profile((32, 32), (64, 64), (512, 512)), [1, 3, -1, -1], [1, 3, -1, -1]),
    ],
)
def test_an_engine_comes_with_the_version_that_it_needs(
    tmp_path: Path, profile: Profile, dims: list[int], large: list[int]
) -> None:
    engine = tmp_path / "lkdn.engine"
    engine.write_bytes(b"plan")
    model, configuration = write_engine(engine, record("tensorrt", profile), tmp_path / "repository")
    assert model.read_bytes() == b"plan"
    found = parsed(configuration)
    assert (found.backend, found.default_model_filename) == ("tensorrt", "model.plan")
    assert (list(found.input[0].dims), list(found.output[0].dims)) == (dims, large)
    assert found.input[0].data_type == model_config_pb2.TYPE_FP16
    assert found.parameters["tensorrt_version"].string_value == "11.1.0.106"
    assert found.parameters["compute_capability"].string_value == "sm86"


def test_triton_has_no_backend_for_engines_of_tensorrt_for_rtx(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Triton runs engines of tensorrt only"):
        write_engine(tmp_path / "a.engine", record("tensorrt-rtx", Profile.fixed((8, 8))), tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("content", [None, b"", b"\xff garbage"])
def test_what_is_no_artefact_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError):
        write_onnx(path, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_a_repository_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        write_onnx(bundled()["lkdn-s", 4], tmp_path / "file")


def test_the_command_writes_what_the_server_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = tmp_path / "repository"
    assert run(command, ["--triton", str(repository), "--scale", "2"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written == [repository / "lkdn-s_x2" / "1" / "model.onnx", repository / "lkdn-s_x2" / "config.pbtxt"]
    assert parsed(written[1]).input[0].name == "lr"
    assert sorted(tmp_path.iterdir()) == [repository]

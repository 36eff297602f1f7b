"""From checkpoints to artefacts, by the command and in Python."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import lkdn_deploy.export.job as job
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import ExitCode, VerificationError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.fuse.branches import FuseResult
from lkdn_models.checkpoint import Checkpoint, load_checkpoint
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.reparameterised import fuse_network


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_the_command_writes_one_verified_file_and_prints_its_path(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(command, ["--fuse", "--onnx", "--weights", str(weights), "-o", str(tmp_path / "new" / "folder")])
    said = capsys.readouterr()
    assert code == ExitCode.DONE, said.err
    (path,) = (tmp_path / "new" / "folder").iterdir()
    assert said.out == f"{path}\n"
    assert path.name == "lkdn-b1-c8-a8_x2.onnx"
    assert [line.split(maxsplit=1)[1] for line in said.err.splitlines() if line.startswith("fused ")] == [
        "input: (4 copies, 1x1) -> 1x1",
        "B1.c1_r and 2 more: 1x1 + identity -> 1x1; depthwise 3x3 + identity + depthwise 1x1 -> depthwise 3x3",
        "upsampler: 1x1 + 3x3 + (1x1, 3x3) -> 3x3",
    ]
    assert len(re.findall(r"verified .*: max difference \d", said.err)) == 3


def test_the_file_is_small_portable_and_describes_itself(weights: Path, tmp_path: Path) -> None:
    report = export_onnx(load_checkpoint(weights), tmp_path / "a.onnx", ExportSettings())
    onnx.checker.check_model(report.path, full_check=True)
    model = onnx.load(report.path, load_external_data=False)
    names = operators(model)
    assert names.count("DepthToSpace") == 1
    assert not {"Reshape", "Slice", "Shape", "Concat"} & set(names) - {"Concat"}
    assert names.count("Concat") == 1  # the distilled features: one block has no trunk to gather
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]
    metadata = ArtifactMetadata.from_props({item.key: item.value for item in model.metadata_props})
    assert metadata == report.metadata
    assert (metadata.scale, metadata.receptive_radius, metadata.fused, metadata.target) == (2, 15, True, "plain")
    assert metadata.weights_sha256 == load_checkpoint(weights).sha256
    assert {"lkdn-deploy", "torch", "onnx"} <= metadata.tools.keys()


def test_no_path_of_the_machine_that_exported_is_in_the_file(weights: Path, tmp_path: Path) -> None:
    content = export_onnx(load_checkpoint(weights), tmp_path / "a.onnx", ExportSettings()).path.read_bytes()
    for trace in (b".py", b"site-packages", str(Path(job.__file__).parent).encode()):
        assert trace not in content


def test_fusion_halves_the_branches_and_not_fusing_keeps_them(weights: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(weights)
    fused = export_onnx(checkpoint, tmp_path / "f.onnx", ExportSettings())
    plain = export_onnx(checkpoint, tmp_path / "t.onnx", ExportSettings(fuse=False))
    assert fused.metadata.fused
    assert not plain.metadata.fused
    count = [operators(onnx.load(report.path)).count("Conv") for report in (fused, plain)]
    # Three RBSB lose a convolution each, the up-sampler three.
    assert count[1] - count[0] == 3 + 3
    batch = np.random.default_rng(0).random((1, 3, 30, 31), np.float32)
    results = [ort.InferenceSession(report.path).run(None, {"lr": batch})[0] for report in (fused, plain)]
    assert np.abs(results[0] - results[1]).max() < 1e-5 * np.abs(results[1]).max()


@pytest.mark.parametrize("opset", [18, 23])
def test_the_oldest_and_the_newest_opset_work(weights: Path, tmp_path: Path, opset: int) -> None:
    report = export_onnx(load_checkpoint(weights), tmp_path / "a.onnx", ExportSettings(opset=opset))
    assert all(report.comparisons)
    assert onnx.load(report.path).opset_import[0].version == opset


def test_a_static_size_is_fixed_and_verified_at_that_size(weights: Path, tmp_path: Path) -> None:
    report = export_onnx(load_checkpoint(weights), tmp_path / "a.onnx", ExportSettings(static=(200, 24)))
    dims = onnx.load(report.path).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, 3, 200, 24]
    assert {comparison.shape for comparison in report.comparisons} == {(1, 3, 200, 24)}


def test_what_is_unusual_about_a_file_is_in_its_name() -> None:
    checkpoint = Checkpoint(Path("w.pth"), LkdnSpec.lkdn_s(4), {}, "")
    assert job.file_name(checkpoint, ExportSettings()) == "lkdn-s_x4.onnx"
    unusual = ExportSettings(fuse=False, static=(180, 320), opset=18)
    assert job.file_name(checkpoint, unusual) == "lkdn-s_x4_unfused_320x180_opset18.onnx"


def test_verification_covers_an_odd_size_a_tiny_one_and_a_photograph() -> None:
    metadata = ArtifactMetadata(model="x", scale=4, receptive_radius=63, live_channels=1, fused=True)
    inputs = job.verification_inputs(metadata)
    shapes = [batch.shape[2:] for batch in inputs.values()]
    assert any(height % 2 and width % 2 for height, width in shapes)
    assert any(max(shape) < 63 for shape in shapes)
    assert inputs["photograph"].std() > 0.1
    assert all(batch.min() >= 0 and batch.max() <= 1 for batch in inputs.values())


def tampered(network: LKDN) -> tuple[LKDN, FuseResult]:
    """One weight of many is off by a hundredth."""
    plain, result = fuse_network(network)
    plain.get_parameter("B1.c2_r.pw.weight").data[3, 4] += 0.01
    return plain, result


def test_weights_that_changed_in_fusion_leave_no_file_and_exit_with_4(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "fuse_network", tampered)
    code = run(command, ["--onnx", "--weights", str(weights), "-o", str(tmp_path)])
    assert code == ExitCode.VERIFICATION_FAILED == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert "does not compute what the checkpoint does" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_failed_verification_keeps_the_earlier_file(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"earlier")
    monkeypatch.setattr(job, "fuse_network", tampered)
    with pytest.raises(VerificationError):
        export_onnx(load_checkpoint(weights), path, ExportSettings())
    assert path.read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--fuse"], 2, "choose at least one of --onnx"),
        (["--onnx", "--opset", "9"], 2, "opset must be one of 18"),
        (["--onnx", "--static", "180"], 2, "expected WIDTHxHEIGHT"),
        (["--onnx", "--static", "0x8"], 2, "expected WIDTHxHEIGHT"),
        (["--onnx", "--static", "99999x8"], 2, "static height and width must be between 1"),
        (["--onnx", "--target", "tpu"], 2, "no such target: tpu"),
        (["--onnx", "--skip", "layer-norm-to-conv"], 2, "the target plain has no rewrite layer-norm-to-conv to skip"),
        (["--onnx", "--target", "ort-cpu", "--skip", "layer-norm-to-rms"], 2, "has no rewrite layer-norm-to-rms"),
        (["--onnx", "--target", "ort-cpu", "--also", "approximate-gelu"], 2, "no optional rewrite approximate-gelu"),
        (["--onnx", "--target", "openvino", "--fp16"], 2, "is in FP32"),
        (["--onnx", "--io", "uint8"], 2, "add --fp16"),
        (["--onnx", "--model", "edsr"], 2, "no network is called edsr"),
        (["--onnx", "--model", "lkdn", "--scale", "3"], 3, "lkdn-zoo get lkdn --scale 3"),
        (["--onnx", "--weights", "gone.pth"], 1, "gone.pth: cannot be read"),
    ],
)
def test_a_wrong_request_ends_with_its_code_and_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], code: int, said: str, weights: Path
) -> None:
    own = [] if "--weights" in args or "--model" in args else ["--weights", str(weights)]
    assert run(command, [*args, *own, "-o", str(tmp_path / "out")]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_exists_is_replaced_only_if_allowed(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lkdn-b1-c8-a8_x2.onnx"
    path.write_bytes(b"earlier")
    words = ["--onnx", "--weights", str(weights), "-o", str(tmp_path)]
    assert run(command, words) == ExitCode.USAGE
    assert f"{path} already exists" in capsys.readouterr().err
    assert path.read_bytes() == b"earlier"
    assert run(command, [*words, "--overwrite"]) == ExitCode.DONE
    onnx.checker.check_model(path)


def test_a_folder_that_cannot_be_made_is_an_input_error(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, ["--onnx", "--weights", str(weights), "-o", str(weights / "below")]) == 1
    assert "cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["ort-cpu", "openvino", "tensorrt"])
def test_a_file_for_an_engine_computes_the_same_by_other_operations(
    target: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--onnx", "--target", target, "--weights", str(weights), "-o", str(tmp_path)]
    assert run(command, words) == ExitCode.DONE
    said = capsys.readouterr()
    path = tmp_path / f"lkdn-b1-c8-a8_x2_{target}.onnx"
    assert said.out == f"{path}\n"
    assert len(re.findall(r"verified .*: max difference \d", said.err)) == 3
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    metadata = ArtifactMetadata.from_props({item.key: item.value for item in model.metadata_props})
    assert (metadata.target, metadata.receptive_radius) == (target, 15)
    assert ("rewrote  merge-separable-conv: 1" in said.err) == (target != "tensorrt")
    assert ("rewrote  layer-norm-to-sum: 1" in said.err) == (target == "tensorrt")
    assert "LayerNormalization" not in operators(model)


def test_a_rewrite_that_is_skipped_leaves_its_pattern(weights: Path, tmp_path: Path) -> None:
    settings = ExportSettings(target="ort-cpu", skip=("layer-norm-to-conv", "pad-channels"))
    report = export_onnx(load_checkpoint(weights), tmp_path / "a.onnx", settings)
    assert "LayerNormalization" in operators(onnx.load(report.path))
    assert "layer-norm-to-conv" not in report.rewrites
    assert report.rewrites["split-concat-conv"].applied == 1
    assert job.file_name(load_checkpoint(weights), settings).endswith(
        "_ort-cpu_no-layer-norm-to-conv_no-pad-channels.onnx"
    )

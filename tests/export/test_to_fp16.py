"""FP16 artefacts: from the command to pictures, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lkdn_deploy.export.job as job
import lkdn_deploy.export.to_fp16 as to_fp16
from lkdn_deploy import load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command
from lkdn_deploy.core.artifact import IOS
from lkdn_deploy.core.errors import ExitCode, VerificationError
from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint
from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.graph.fp16.rescale import Rescaled
from lkdn_deploy.samples import sample_pixels
from lkdn_models.checkpoint import Checkpoint, load_checkpoint
from lkdn_models.training.evaluate import mean, measure, open_set

PHOTOGRAPH = sample_pixels()[60:101, 40:97]


@pytest.fixture
def steep(weights: Path) -> Checkpoint:
    """A network whose attention takes values of 1e7 or so, by which its norm divides."""
    checkpoint = load_checkpoint(weights)
    for name in ("weight", "bias"):
        checkpoint.state[f"B1.atten.pointwise.{name}"].mul_(1e4)
    return checkpoint


def leave_as_is(model: onnx.ModelProto, ranges: Any) -> Rescaled:
    return Rescaled(model, dict(ranges), {})


@pytest.mark.parametrize("io", IOS)
def test_the_command_writes_an_fp16_file_that_upscales_as_the_fp32_one_does(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], io: str
) -> None:
    args = ["--fuse", "--onnx", "--fp16", "--io", io, "--weights", str(weights), "-o", str(tmp_path)]
    assert run(command, args) == ExitCode.DONE
    said = capsys.readouterr()
    path = tmp_path / ("lkdn-b1-c8-a8_x2_fp16.onnx" if io == "fp32" else f"lkdn-b1-c8-a8_x2_fp16_{io}.onnx")
    assert said.out == f"{path}\n"
    assert re.search(r"^fp16 +1 operations stay in FP32 \(statistics 1\), .* times as much fits$", said.err, re.M)
    assert len(re.findall(r"verified .*: PSNR \d+\.\d dB \(at least 60\)|verified .*: PSNR inf", said.err)) == 3
    onnx.checker.check_model(path, full_check=True)
    upscaler = load(path)
    metadata = upscaler.session.metadata
    assert (metadata.precision, metadata.io, metadata.islands) == ("fp16", io, {"statistics": 1})
    assert metadata.peak is not None
    assert 65504 / metadata.peak > 8
    assert metadata.peak_at
    assert metadata.ranges[metadata.peak_at] == pytest.approx(metadata.peak, rel=1e-3)
    assert max(metadata.ranges.values()) == metadata.ranges[metadata.peak_at]
    assert list(metadata.ranges) == sorted(metadata.ranges)  # or each process writes another file
    full = load(export_onnx(load_checkpoint(weights), tmp_path / "full.onnx", ExportSettings()).path)
    assert np.abs(upscaler(PHOTOGRAPH).astype(int) - full(PHOTOGRAPH)).max() <= 1


def test_values_that_a_norm_divides_by_are_divided_before(steep: Checkpoint, tmp_path: Path) -> None:
    report = export_onnx(steep, tmp_path / "a.onnx", ExportSettings(precision="fp16"))
    assert report.fp16 is not None
    assert report.fp16.rescaled >= 5
    assert report.metadata.islands == {"statistics": 1}


def test_values_that_cannot_be_divided_stay_in_fp32(
    steep: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_fp16, "rescale", leave_as_is)
    report = export_onnx(steep, tmp_path / "a.onnx", ExportSettings(precision="fp16"))
    assert report.metadata.islands["range"] >= 4
    assert report.metadata.peak is not None
    assert 65504 / report.metadata.peak > 8


@pytest.mark.parametrize("io", IOS)
def test_values_that_overflow_leave_no_file_and_exit_with_4(
    steep: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], io: str
) -> None:
    """Whatever ranges did not tell: as if they had not been looked at."""
    monkeypatch.setattr(to_fp16, "rescale", leave_as_is)
    monkeypatch.setattr(to_fp16, "cast_to_fp16", lambda model, io, ranges: cast_to_fp16(model, io))
    monkeypatch.setattr(job, "open_checkpoint", lambda *args: steep)
    assert run(command, ["--onnx", "--fp16", "--io", io, "-o", str(tmp_path)]) == ExitCode.VERIFICATION_FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert "leave the range of FP16, which ends at 65504, on: noise" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_picture_differs_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(model: onnx.ModelProto, ranges: Any) -> Rescaled:
        for tensor in model.graph.initializer:
            if tensor.name.endswith("fea_conv.dw.bias"):
                tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 0.1, tensor.name))
        return Rescaled(model, dict(ranges), {})

    monkeypatch.setattr(to_fp16, "rescale", off)
    with pytest.raises(VerificationError, match=r"photograph .*PSNR .*at least 60"):
        export_onnx(load_checkpoint(weights), tmp_path / "a.onnx", ExportSettings(precision="fp16"))
    assert list(tmp_path.iterdir()) == []


def test_a_static_size_and_an_old_opset_work(weights: Path, tmp_path: Path) -> None:
    settings = ExportSettings(precision="fp16", io="uint8", static=(24, 40), opset=18)
    report = export_onnx(load_checkpoint(weights), tmp_path / "a.onnx", settings)
    model = onnx.load(report.path)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 24, 40]
    assert model.opset_import[0].version == 18
    assert all(report.comparisons)


@pytest.mark.parametrize("io", IOS)
def test_tensorrt_parses_the_bundled_network_with_all_convolutions_in_half(tmp_path: Path, io: Any) -> None:
    """Its parser needs no GPU."""
    trt = pytest.importorskip("tensorrt_rtx")
    settings = ExportSettings(precision="fp16", io=io, static=(24, 40))
    report = export_onnx(open_checkpoint(None), tmp_path / "a.onnx", settings)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(report.path.read_bytes())
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = [layer.get_input(0).dtype for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
    assert len(kinds) == 86
    assert set(kinds) == {trt.float16}
    ends = {"fp32": trt.float32, "fp16": trt.float16, "uint8": trt.uint8}[io]
    assert (network.get_input(0).dtype, network.get_output(0).dtype) == (ends, ends)


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "psnr"),
    [
        ("LKDN/LKDN-S_x4.pth", 32.102),
        pytest.param("RFDN/team00_rfdn.pth", 32.159, marks=pytest.mark.long),
        pytest.param("LKDN/LKDN_x4.pth", 32.390, marks=pytest.mark.long),
        pytest.param("BSRN/net_g_BSRN_x4.pth", 32.349, marks=pytest.mark.long),
        pytest.param("VapSR/VapSR_X4.pth", 32.400, marks=pytest.mark.long),
    ],
)
def test_published_weights_have_their_quality_in_fp16(data: Path, tmp_path: Path, file: str, psnr: float) -> None:
    """``psnr`` is what the zoo says of FP32."""
    checkpoint = load_checkpoint(data / "weights" / file)
    report = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings(precision="fp16"))
    quality = mean(measure(load(report.path), open_set(data / "testsets" / "Set5", 4)))
    assert quality.psnr_y == pytest.approx(psnr, abs=0.01)

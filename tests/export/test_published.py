"""The published weights through the whole path: fused, exported, on ONNX Runtime, measured as the papers measure."""

from pathlib import Path

import pytest

from lkdn_deploy import load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command
from lkdn_models.evaluate import mean_psnr_y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "artefact", "set5", "set14"),
    [
        ("LKDN_x2.pth", "lkdn_x2.onnx", 38.114, 33.850),
        ("LKDN_x3.pth", "lkdn_x3.onnx", 34.531, 30.507),
        ("LKDN_x4.pth", "lkdn_x4.onnx", 32.390, 28.796),
        ("LKDN-S_x4.pth", "lkdn-s_x4.onnx", 32.102, 28.619),
    ],
)
def test_quality_of_the_deployed_file_is_that_of_the_published_weights(
    data: Path, tmp_path: Path, file: str, artefact: str, set5: float, set14: float
) -> None:
    weights = data / "weights" / "LKDN" / file
    assert run(command, ["--fuse", "--onnx", "--weights", str(weights), "-o", str(tmp_path)]) == 0
    upscaler = load(tmp_path / artefact)
    for name, expected in (("Set5", set5), ("Set14", set14)):
        folder = data / "testsets" / name / f"x{upscaler.scale}" / "HR"
        assert mean_psnr_y(upscaler, upscaler.scale, folder) == pytest.approx(expected, abs=0.005), name

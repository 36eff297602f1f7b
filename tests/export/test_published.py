"""The published weights through the whole path: fused, exported, on ONNX Runtime, measured as the papers measure."""

from pathlib import Path
from typing import Any

import pytest

from lkdn_deploy import load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import command

Figures = tuple[float, float]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "artefact", "set5", "set14"),
    [
        pytest.param("LKDN_x2.pth", "lkdn_x2.onnx", (38.114, 0.9610), (33.850, 0.9202), marks=pytest.mark.long),
        pytest.param("LKDN_x3.pth", "lkdn_x3.onnx", (34.531, 0.9283), (30.507, 0.8456), marks=pytest.mark.long),
        pytest.param("LKDN_x4.pth", "lkdn_x4.onnx", (32.390, 0.8979), (28.796, 0.7860), marks=pytest.mark.long),
        ("LKDN-S_x4.pth", "lkdn-s_x4.onnx", (32.102, 0.8938), (28.619, 0.7821)),
    ],
)
def test_quality_of_the_deployed_file_is_that_of_the_published_weights(
    data: Path, tmp_path: Path, file: str, artefact: str, set5: Figures, set14: Figures, assert_quality: Any
) -> None:
    weights = data / "weights" / "LKDN" / file
    assert run(command, ["--fuse", "--onnx", "--weights", str(weights), "-o", str(tmp_path)]) == 0
    upscaler = load(tmp_path / artefact)
    assert_quality(upscaler, "Set5", *set5)
    assert_quality(upscaler, "Set14", *set14)

"""Published weights at x4 through the export: on ONNX Runtime they have the quality that the zoo says."""

from pathlib import Path
from typing import Any

import pytest

import lkdn_deploy.export.job as job
from lkdn_deploy import load
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.training.evaluate import open_set
from lkdn_models.zoo import find


@pytest.mark.parametrize(
    ("name", "file"),
    [
        pytest.param("bsrn", "BSRN/net_g_BSRN_x4.pth", marks=pytest.mark.long),
        pytest.param("bsrn-s", "BSRN/net_g_BSRN-S.pth", marks=pytest.mark.long),
        pytest.param("vapsr", "VapSR/VapSR_X4.pth", marks=pytest.mark.long),
        ("vapsr-s", "VapSR/VapSR-S.pth"),
        pytest.param("rlfn", "RLFN/rlfn_x4.pth", marks=pytest.mark.long),
        pytest.param("rfdn-aim", "RFDN/team00_rfdn.pth", marks=pytest.mark.long),
        pytest.param("pan", "PAN/PANx4_DF2K.pth", marks=pytest.mark.long),
        ("imdn", "IMDN/IMDN_x4.pth"),
    ],
)
def test_the_deployed_file_agrees_with_pytorch_and_has_the_quality_of_the_zoo(
    name: str, file: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assert_quality: Any
) -> None:
    set5 = open_set(data / "testsets" / "Set5", 4)
    woman, low, _ = set5.pairs[-1]
    monkeypatch.setattr(job, "verification_inputs", lambda metadata, static: {woman: to_batch(low)})
    report = export_onnx(load_checkpoint(data / "weights" / file), tmp_path / "a.onnx", ExportSettings())
    (comparison,) = report.comparisons
    assert comparison.shape == (1, 3, 86, 57)
    upscale, entry = load(report.path), find(name, 4)
    metadata = upscale.session.metadata
    assert (metadata.model, metadata.scale, metadata.weights_sha256) == (name, 4, entry.weights.sha256)
    assert metadata.receptive_radius == entry.receptive_radius
    assert metadata.smallest == entry.build().smallest
    assert_quality(upscale, "Set5", *entry.measured["Set5"])

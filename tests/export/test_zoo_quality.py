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
        ("span-ch28", "NTIRE2024/team38_span_ch28_slim.pth"),
        *(
            pytest.param(name, file, marks=pytest.mark.long)
            for name, file in (
                ("spanf", "NTIRE2025/team24_spanf.pth"),
                ("pkdsr", "NTIRE2026/team16_PKDSR.pth"),
                ("pds", "NTIRE2026/team01_PDS.pth"),
                ("tssr", "NTIRE2025/team58_TSSR.pth"),
                ("ecbsr-m4c16", "ETDS/ECBSR_M4C16_x4.pth"),
                ("ecbsr-m6c40", "ETDS/ECBSR_M6C40_x4.pth"),
                ("ecbsr-et-m4c16", "ETDS/ECBSR_ET_M4C16_x4.pth"),
                ("ecbsr-et-m6c40", "ETDS/ECBSR_ET_M6C40_x4.pth"),
                ("etds-m4c32", "ETDS/ETDS_M4C32_x4.pth"),
                ("etds-m7c48", "ETDS/ETDS_M7C48_x4.pth"),
                ("abpn-m6c40", "ETDS/ABPN_M6C40_x4.pth"),
                ("espcn", "ETDS/ESPCN_x4.pth"),
                ("efdn", "NTIRE2025/team00_EFDN.pth"),
                ("reprlfn", "NTIRE2025/team25_RepRLFN.pth"),
                ("dipnet", "NTIRE2025/team15_DIPNet_slim_v2.pt"),
                ("smfanet", "SMFANet/SMFANet_DF2K_100w_x4SR.pth"),
                ("sgsdn", "NTIRE2025/team18_SGSDN.pth"),
                ("gfmn", "NTIRE2024/team22_gfmn.pth"),
                ("r2net", "NTIRE2024/team29_R2Net.pth"),
                ("safmn-v3", "NTIRE2025/team19_safmnv3.pth"),
            )
        ),
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


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "scale", "file"),
    [
        ("span-ch48", 2, "SPAN/spanx2_ch48.safetensors"),
        ("span-ch48", 4, "SPAN/spanx4_ch48.safetensors"),
        ("compact", 4, "Compact/realesr-animevideov3-x4.safetensors"),
        ("tssr", 4, "NTIRE2026/team18_DISP.pth"),
        *(
            (f"{family}-{size}", scale, "ETDS/" + f"{family}_{size}".upper().replace("-", "_") + f"_x{scale}.pth")
            for family, size in (
                *(("ecbsr", "m4c16"), ("ecbsr", "m6c40"), ("ecbsr-et", "m4c16"), ("ecbsr-et", "m6c40")),
                *(("etds", "m4c32"), ("etds", "m7c48"), ("abpn", "m6c40")),
            )
            for scale in (2, 3)
        ),
        ("espcn", 2, "ETDS/ESPCN_x2.pth"),
        ("espcn", 3, "ETDS/ESPCN_x3.pth"),
        ("smfanet", 2, "SMFANet/SMFANet_DF2K_100w_x2SR.pth"),
        ("smfanet", 3, "SMFANet/SMFANet_DF2K_100w_x3SR.pth"),
    ],
)
def test_other_scales_and_files_have_the_quality_of_the_zoo_too(
    name: str, scale: int, file: str, data: Path, tmp_path: Path, assert_quality: Any
) -> None:
    checkpoint = load_checkpoint(data / "weights" / file)
    assert (checkpoint.name, checkpoint.scale) == (name, scale)
    report = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings())
    assert_quality(load(report.path, backend="ort-cpu"), "Set5", *find(name, scale).measured["Set5"])

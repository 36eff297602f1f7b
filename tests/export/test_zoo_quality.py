"""Every published checkpoint at hand through the export: ONNX Runtime and the native engine have the zoo's quality."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lkdn_deploy.export.job as job
from lkdn_deploy import load
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_models.checkpoint import CONVERTERS, load_checkpoint
from lkdn_models.rgb import as_rgb
from lkdn_models.training.evaluate import open_set
from lkdn_models.zoo import find

ROOT = Path(__file__).parents[2]
FILES = {
    "BSRN/net_g_BSRN-S.pth": ("bsrn-s", 4),
    "Compact/realesr-animevideov3-x4.safetensors": ("compact", 4),
    "IDN/IDN_x4.caffemodel": ("idn", 4),
    "IMDN/IMDN_x4.pth": ("imdn", 4),
    "LKDN/LKDN-S_del_rep_x4.pth": ("lkdn-s", 4),
    "LKDN/LKDN-S_x4.pth": ("lkdn-s", 4),
    "NTIRE2024/team22_gfmn.pth": ("gfmn", 4),
    "NTIRE2024/team29_R2Net.pth": ("r2net", 4),
    "NTIRE2024/team38_span_ch28_slim.pth": ("span-ch28", 4),
    "NTIRE2025/team00_EFDN.pth": ("efdn", 4),
    "NTIRE2025/team15_DIPNet_slim_v2.pt": ("dipnet", 4),
    "NTIRE2025/team18_SGSDN.pth": ("sgsdn", 4),
    "NTIRE2025/team19_safmnv3.pth": ("safmn-v3", 4),
    "NTIRE2025/team24_spanf.pth": ("spanf", 4),
    "NTIRE2025/team25_RepRLFN.pth": ("reprlfn", 4),
    "NTIRE2025/team58_TSSR.pth": ("tssr", 4),
    "NTIRE2026/team01_PDS.pth": ("pds", 4),
    "NTIRE2026/team16_PKDSR.pth": ("pkdsr", 4),
    "NTIRE2026/team18_DISP.pth": ("tssr", 4),
    "RFDN/team00_rfdn.pth": ("rfdn-aim", 4),
    "RLFN/rlfn_x4.pth": ("rlfn", 4),
    "SPAN/spanx2_ch48.safetensors": ("span-ch48", 2),
    "SPAN/spanx4_ch48.safetensors": ("span-ch48", 4),
    "VDSR/VDSR_Official.mat": ("vdsr", 4),
    "VapSR/VapSR-S.pth": ("vapsr-s", 4),
    **{
        file.format(scale): (name, scale)
        for file, name in (
            ("BSRN/net_g_BSRN_x{}.pth", "bsrn"),
            ("ETDS/ABPN_M6C40_x{}.pth", "abpn-m6c40"),
            ("ETDS/ECBSR_ET_M4C16_x{}.pth", "ecbsr-et-m4c16"),
            ("ETDS/ECBSR_ET_M6C40_x{}.pth", "ecbsr-et-m6c40"),
            ("ETDS/ECBSR_M4C16_x{}.pth", "ecbsr-m4c16"),
            ("ETDS/ECBSR_M6C40_x{}.pth", "ecbsr-m6c40"),
            ("ETDS/ESPCN_x{}.pth", "espcn"),
            ("ETDS/ETDS_M4C32_x{}.pth", "etds-m4c32"),
            ("ETDS/ETDS_M7C48_x{}.pth", "etds-m7c48"),
            ("LKDN/LKDN_x{}.pth", "lkdn"),
            ("PAN/PANx{}_DF2K.pth", "pan"),
            ("SMFANet/SMFANet_DF2K_100w_x{}SR.pth", "smfanet"),
            ("VapSR/VapSR_X{}.pth", "vapsr"),
        )
        for scale in (2, 3, 4)
    },
}
"""Network and scale by checkpoint."""
NOT_NATIVE = {"gfmn", "idn", "pan", "safmn-v3", "vdsr"}
"""Networks that the native engine leaves to ONNX Runtime."""
SHORT = ("NTIRE2024/team38_span_ch28_slim.pth",)


def converted(file: Path, folder: Path) -> Path:
    """The checkpoint, in a format that is read."""
    script = CONVERTERS.get(file.suffix)
    if script is None:
        return file
    spec = importlib.util.spec_from_file_location("script", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(str(file), str(folder / "converted.safetensors"))
    return folder / "converted.safetensors"


def test_no_checkpoint_is_forgotten(data: Path) -> None:
    def files() -> Iterator[str]:
        for path in (data / "weights").rglob("*"):
            if path.is_file() and path.suffix.lower() in {".pth", ".pt", ".safetensors", *CONVERTERS}:
                yield path.relative_to(data / "weights").as_posix()

    assert set(files()) == FILES.keys()


@pytest.mark.parametrize(
    "file", [file if file in SHORT else pytest.param(file, marks=pytest.mark.long) for file in FILES]
)
def test_the_deployed_file_agrees_with_pytorch_and_has_the_quality_of_the_zoo(
    file: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assert_quality: Any
) -> None:
    name, scale = FILES[file]
    checkpoint = load_checkpoint(converted(data / "weights" / file, tmp_path), scale)
    assert (checkpoint.name, checkpoint.scale) == (name, scale)
    set5 = open_set(data / "testsets" / "Set5", 4)
    woman, low, _ = set5.pairs[-1]
    monkeypatch.setattr(job, "verification_inputs", lambda metadata, static: {woman: to_batch(low)})
    report = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings())
    (comparison,) = report.comparisons
    assert comparison.shape == (1, 3, 86, 57)
    entry = find(name, scale)
    for backend in ("ort-cpu", "native"):
        if backend == "native" and name in NOT_NATIVE:
            with pytest.raises(InputError, match="the native engine does not support"):
                load(report.path, backend=backend)
            continue
        upscale = load(report.path, backend=backend)
        metadata = upscale.session.metadata
        assert (metadata.model, metadata.scale, metadata.weights_sha256) == (name, scale, checkpoint.sha256)
        assert metadata.receptive_radius == entry.receptive_radius
        assert metadata.smallest == as_rgb(checkpoint.build(), checkpoint.input, scale).smallest
        assert_quality(upscale, "Set5", *entry.measured["Set5"], on_luma=entry.input.luma_only)

"""Every network that is no LKDN goes through the export with random weights and runs, whatever it takes and gives.

Those whose published weights are at hand go through it in ``test_zoo_quality``.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import lkdn_deploy.export.job as job
from lkdn_deploy import load
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.verify import probes
from lkdn_models.checkpoint import Checkpoint
from lkdn_models.nets.bsrn import BSRN, BiasedBSConv, PlainESDB, Pointwise, SmallESDB
from lkdn_models.nets.drrn import DRRN
from lkdn_models.nets.gfmn import GFMN
from lkdn_models.nets.imdn import IMDN
from lkdn_models.nets.lapar import LAPAR
from lkdn_models.nets.lapsrn import LapSRN
from lkdn_models.nets.memnet import MemNet
from lkdn_models.nets.pan import PAN
from lkdn_models.nets.r2net import R2Net
from lkdn_models.nets.rfdn import RFDN, ChallengeRFDB
from lkdn_models.nets.rlfn import RLFN
from lkdn_models.nets.safmn import SAFMNv3
from lkdn_models.nets.sgsdn import SGSDN
from lkdn_models.nets.vapsr import VAPSR
from lkdn_models.nets.vdsr import VDSR
from lkdn_models.rgb import as_rgb
from lkdn_models.training.evaluate import floats
from lkdn_models.zoo import Input, Variant, ZooEntry, entries, find, names

SHALLOW: dict[str, Callable[[int], nn.Module]] = {
    "bsrn": lambda scale: BSRN(scale, blocks=1),
    "bsrn-s": lambda scale: BSRN(scale, channels=48, blocks=1, block=SmallESDB, conv=BiasedBSConv, pointwise=Pointwise),
    "vapsr": lambda scale: VAPSR(scale, blocks=2),
    "vapsr-s": lambda scale: VAPSR(scale, channels=32, blocks=1, groups=2),
    "rlfn": lambda scale: RLFN(scale, blocks=1),
    "rlfn-s": lambda scale: RLFN(scale, channels=48, blocks=1),
    "rlfn-ntire": lambda scale: RLFN(scale, channels=46, inner=48, blocks=1),
    "rfdn": lambda scale: RFDN(scale, blocks=1),
    "rfdn-l": lambda scale: RFDN(scale, channels=52, blocks=1),
    "rfdn-aim": lambda scale: RFDN(scale, channels=50, blocks=1, block=ChallengeRFDB),
    "pan": lambda scale: PAN(scale, blocks=1),
    "imdn": lambda scale: IMDN(scale, blocks=2),
    "lapar-a": lambda scale: LAPAR(scale, blocks=1),
    "memnet": lambda _: MemNet(blocks=2, units=1),
    "drrn": lambda _: DRRN(units=2),
    "lapsrn": lambda scale: LapSRN(scale, depth=2),
    "vdsr": lambda _: VDSR(depth=4),
    "bsrn-wo-esa-cca": lambda scale: BSRN(scale, blocks=1, block=PlainESDB),
    "sgsdn": lambda scale: SGSDN(scale, blocks=1),
    "gfmn": lambda scale: GFMN(scale, blocks=1),
    "r2net": lambda scale: R2Net(scale, blocks=1),
    "safmn-v3": lambda scale: SAFMNv3(scale, blocks=1),
}
"""Networks that repeat a block, with few of them: all blocks are treated as one is."""

NEWER = {
    *("span-ch28", "spanf", "pkdsr", "pds", "tssr", "efdn", "reprlfn", "dipnet", "smfanet", "abpn-m6c40", "espcn"),
    *("sgsdn", "gfmn", "r2net", "safmn-v3"),
    *("ecbsr-m4c16", "ecbsr-m6c40", "ecbsr-et-m4c16", "ecbsr-et-m6c40", "etds-m4c32", "etds-m7c48"),
}
PUBLISHED = {"bsrn", "bsrn-s", "vapsr", "vapsr-s", "rfdn-aim", "rlfn", "imdn", "pan", *NEWER}
AT_HAND = PUBLISHED if (Path(os.environ.get("LKDN_TEST_DATA") or "nowhere") / "weights").is_dir() else set()
LARGE = {"span-ch48", "compact", "lapar-a", "carn", "carn-m", "idn", "memnet", "drrn", "rfdn-l", "rlfn-s"}
"""Networks whose export takes long, and of whose operations others consist too."""
FUSED = {"lapar-a", "rfdn", "rfdn-l", "rfdn-aim"}
"""Networks that are fused, beside LKDN and its variants."""
NATIVE = {
    *("bsrn", "bsrn-s", "bsrn-wo-esa-cca", "carn", "carn-m", "idn-rgb", "imdn", "vapsr", "vapsr-s"),
    *("rfdn", "rfdn-l", "rfdn-aim", "rlfn", "rlfn-s", "rlfn-ntire"),
    *("span-ch48", "compact", *NEWER - {"gfmn", "safmn-v3"}),
}
"""Networks of which the native engine does nine tenths and more, beside LKDN and its variants."""
PHOTOGRAPH = sample_pixels()[60:83, 40:101].astype(np.float32) / 255
"""(23, 61, 3)."""


def entry_of(name: str) -> ZooEntry:
    """The scale that is odd where there is it, else the largest; the smallest where the input is enlarged."""
    found = {entry.scale: entry for entry in entries(name)}
    if found[max(found)].input is Input.ENLARGED_LUMA:
        return found[2]
    return found.get(3, found[max(found)])


def clouds(metadata: ArtifactMetadata, static: tuple[int, int] | None = None) -> dict[str, NDArray[np.float32]]:
    return {"clouds": probes.clouds(np.random.default_rng(0), 1, 23, 37)}


@pytest.fixture
def checkpoint_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Checkpoint]:
    """A network with the weights that PyTorch draws, gains and slopes changed so that they show."""
    monkeypatch.setattr(job, "verification_inputs", clouds)
    monkeypatch.setattr("lkdn_models.nets.idn.STAGES", range(3, 4))

    def make(name: str) -> Checkpoint:
        entry = entry_of(name)
        if name in SHALLOW:
            monkeypatch.setattr(ZooEntry, "build", lambda self, deployed=False: SHALLOW[self.name](self.scale))
        torch.manual_seed(0)
        state = entry.build().state_dict()
        for key, value in state.items():
            if value.ndim == 1 or key.endswith("original0"):
                value.mul_(0.8 + 0.4 * torch.rand_like(value))
        return Checkpoint(Path("random"), entry, state, "0" * 64)

    return make


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long) if name in LARGE else name
        for name in names()
        if next(entries(name)).spec is None and name not in AT_HAND
    ],
)
def test_a_network_is_exported_and_run(name: str, checkpoint_of: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    checkpoint = checkpoint_of(name)
    report = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings())
    (comparison,) = report.comparisons
    assert comparison.shape == (1, 3, 23, 37)
    assert bool(report.applied) == (name in FUSED) != bool(report.skipped)
    metadata = open_session(report.path, "ort-cpu").metadata
    network = as_rgb(checkpoint.build(), checkpoint.input, checkpoint.scale).eval()
    assert metadata == report.metadata
    assert (metadata.model, metadata.scale, metadata.fused) == (name, checkpoint.scale, True)
    assert (metadata.receptive_radius, metadata.smallest) == (network.receptive_radius, network.smallest)
    assert metadata.weights_sha256 == checkpoint.sha256
    upscale = load(report.path, backend="ort-cpu")
    assert upscale.session.metadata.target == "ort-cpu"
    assert upscale.session.metadata.receptive_radius == metadata.receptive_radius
    expected = floats(network)(to_batch(PHOTOGRAPH))
    assert expected.std() > 0.01
    assert np.allclose(upscale.session.run(to_batch(PHOTOGRAPH)), expected, rtol=0, atol=5e-5)
    fastest = open_session(report.path)
    assert (fastest.backend == "native-cpu") == (name in NATIVE)
    assert np.allclose(fastest.run(to_batch(PHOTOGRAPH)), expected, rtol=0, atol=5e-5)
    whole = upscale(PHOTOGRAPH)
    assert whole.shape == (23 * metadata.scale, 61 * metadata.scale, 3)
    assert np.allclose(to_batch(whole), expected.clip(0, 1), rtol=0, atol=5e-5)
    if metadata.receptive_radius is None:
        return
    tiled = load(report.path, tile=8)
    width = 2 * max(metadata.receptive_radius, tiled.session.window_halo) + 24
    wide = sample_pixels()[:23, :width].astype(np.float32) / 255
    if wide.shape[1] < 100:  # else the sample is too small for a second tile
        assert len(tiled.plan(*wide.shape[:2])) > 1
        assert np.allclose(tiled(wide), upscale(wide), rtol=0, atol=5e-6)


@pytest.mark.long
def test_cells_are_spread_as_pytorch_does_where_onnx_runtime_would_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(job, "verification_inputs", clouds)
    torch.manual_seed(0)
    entry = Variant("small", replace(find("gfmn", 4).network, settings={"channels": 4, "inner": 3, "blocks": 1}), 4)
    checkpoint = Checkpoint(Path("random"), entry, entry.build().state_dict(), "0" * 64)
    report = export_onnx(checkpoint, tmp_path / "a.onnx", ExportSettings())
    batch = np.random.default_rng(0).random((1, 3, 114, 228), np.float32)
    expected = floats(checkpoint.build().eval())(batch)
    assert np.allclose(open_session(report.path, "ort-cpu").run(batch), expected, rtol=0, atol=1e-5)


def test_lapar_is_exported_without_folding_too(checkpoint_of: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    report = export_onnx(checkpoint_of("lapar-a"), tmp_path / "a.onnx", ExportSettings(fuse=False))
    assert (report.applied, report.skipped) == ((), ("left out as asked",))
    assert [comparison.shape for comparison in report.comparisons] == [(1, 3, 23, 37)]

"""The published networks in fixed point against float32, on test sets and on hostile pictures."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from lkdn_deploy.backends.native.session import NativeSession
from lkdn_deploy.backends.onnx_bytes import Artifact, read_artifact
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.imaging.testsets import find_all, read_pair

Pixels = np.ndarray


COMPACT = "Compact/realesr-animevideov3-x4.safetensors"
TAKEN = ("LKDN/LKDN-S_x4.pth", "LKDN/LKDN_x4.pth", "ETDS/ECBSR_M4C16_x4.pth", "ETDS/ECBSR_ET_M4C16_x4.pth", COMPACT)
REFUSED = (
    *("VapSR/VapSR_X4.pth", "SPAN/spanx4_ch48.safetensors", "NTIRE2024/team38_span_ch28_slim.pth"),
    *("ETDS/ECBSR_M6C40_x4.pth", "ETDS/ECBSR_ET_M6C40_x4.pth"),
)


def exported(weights: Path, folder: Path) -> Artifact:
    from lkdn_deploy.export.job import ExportSettings, export_onnx
    from lkdn_models.checkpoint import load_checkpoint

    return read_artifact(export_onnx(load_checkpoint(weights), folder / "a.onnx", ExportSettings()).path)


@pytest.fixture(scope="module", params=TAKEN)
def artifact(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return exported(data / "weights" / request.param, tmp_path_factory.mktemp("exported"))


def hostile() -> Iterator[Pixels]:
    random = np.random.default_rng(17)
    side = 64
    rows, columns = np.mgrid[:side, :side]
    for _ in range(20):
        size = int(random.choice([1, 2, 4, 8]))
        colours = 255 * random.integers(0, 2, (2, 3), np.uint8)
        yield random.integers(0, 256, (side, side, 3), np.uint8)
        yield 255 * random.integers(0, 2, (side, side, 3), np.uint8)
        yield colours[(rows // size + columns // size) % 2]
        yield colours[rows // size % 2]
        yield colours[(rows * random.normal() + columns * random.normal() > 0).astype(int)]
        tiles = 255 * random.integers(0, 2, (side // size, side // size, 3), np.uint8)
        yield tiles.repeat(size, axis=0).repeat(size, axis=1)
        yield np.broadcast_to(random.integers(0, 256, 3), (side, side, 3)).astype(np.uint8)
        yield (128 + 127 * np.sin(rows * random.random() * 3 + columns)[..., None].repeat(3, 2)).astype(np.uint8)
        yield np.where(random.random((side, side, 1)) < 0.05, 255, colours[0]).astype(np.uint8)
        yield ((rows[..., None] * random.normal(0, 4, 3) + columns[..., None] * 3) % 256).astype(np.uint8)


def both(sessions: tuple[NativeSession, NativeSession], low: Pixels) -> tuple[Pixels, Pixels]:
    found = []
    for session in sessions:
        place = np.zeros((4 * low.shape[0], 4 * low.shape[1], 3), np.uint8)
        session.fill(to_batch(low), np.s_[:, :], place)
        found.append(place)
    return found[0], found[1]


@pytest.mark.long
def test_published_networks_lose_nothing_that_shows(artifact: Artifact, data: Path) -> None:
    sessions = NativeSession(artifact, 1, fixed_point=True), NativeSession(artifact, 1)
    for one in find_all([data / "testsets"], 4):
        losses = []
        for picture in one.pictures:
            low, high = read_pair(picture, 4)
            found, exact = both(sessions, low)
            assert np.abs(found.astype(int) - exact).max() <= 2
            losses.append(psnr_y(exact, high, 4) - psnr_y(found, high, 4))
        assert max(losses) <= 0.01
        assert np.mean(losses) <= 0.005


@pytest.mark.long
def test_hostile_pictures_differ_by_two_levels_at_most(artifact: Artifact) -> None:
    sessions = NativeSession(artifact, 1, fixed_point=True), NativeSession(artifact, 1)
    differences = [np.abs(found.astype(int) - exact).max() for found, exact in (both(sessions, it) for it in hostile())]
    use = sessions[0].range_use()
    assert use is not None
    assert use.windows == len(differences) == 200
    assert 0 < use.again < 200
    assert max(differences) <= 2


@pytest.mark.long
@pytest.mark.parametrize("weights", REFUSED)
def test_networks_that_enlarge_roundings_are_refused(weights: str, data: Path, tmp_path: Path) -> None:
    found = exported(data / "weights" / weights, tmp_path)
    with pytest.raises(InputError, match=r"pixels would differ by \d+\.\d of 255 levels from FP32"):
        NativeSession(found, 1, fixed_point=True)

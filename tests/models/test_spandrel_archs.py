"""LKDN, BSRN and VapSR in spandrel, where it is installed; `pip install '.[spandrel]'` does so."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    spandrel = pytest.importorskip("spandrel")

from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.spandrel_archs import install
from lkdn_models.zoo import all_entries


@pytest.fixture
def loader() -> "spandrel.ModelLoader":
    """A loader of spandrel's own architectures and ours."""
    registry = spandrel.MAIN_REGISTRY.copy()
    assert [support.architecture.id for support in install(registry)] == ["LKDN", "BSRN", "VapSR"]
    return spandrel.ModelLoader(registry=registry)


def test_a_second_installation_adds_nothing(loader: "spandrel.ModelLoader") -> None:
    before = len(loader.registry)
    assert install(loader.registry) == []
    assert len(loader.registry) == before == len(spandrel.MAIN_REGISTRY) + 3


def test_an_lkdn_of_any_widths_is_loaded_fused(
    loader: "spandrel.ModelLoader", random_checkpoint: Callable[[LkdnSpec], Path]
) -> None:
    spec = LkdnSpec(3, 2, 8, 6, Block.RBSB, Upsampler.REP)
    found = loader.load_from_file(random_checkpoint(spec))
    assert (found.architecture.id, found.scale, found.tags) == ("LKDN", 3, ["lkdn-b2-c8-a6"])
    assert found.tiling is spandrel.ModelTiling.SUPPORTED
    assert found.model.spec.fused
    with pytest.raises(spandrel.UnsupportedDtypeError):
        found.half()


def test_of_all_networks_those_of_the_three_papers_are_detected(loader: "spandrel.ModelLoader") -> None:
    expected = {"lkdn": "LKDN", "bsrn": "BSRN", "vapsr": "VapSR"}
    for entry in all_entries():
        with torch.device("meta"):
            state = entry.build().state_dict()
        ours = [support.architecture.id for support in loader.registry.architectures()[-3:] if support.detect(state)]
        family = expected.get(entry.network.make.partition(":")[0])
        assert ours == ([family] if family else []), entry.name
        if family:
            assert not any(support.detect(state) for support in spandrel.MAIN_REGISTRY), entry.name


def test_what_only_looks_like_one_is_left_to_others(loader: "spandrel.ModelLoader") -> None:
    state = LKDN(LkdnSpec(2, 1, 8, 8)).state_dict() | {"other": torch.zeros(1)}
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict(state)
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict({"fea_conv.pw.weight": torch.zeros(3), "body.0.proj_1.weight": "none"})


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("LKDN/LKDN-S_x4.pth", "lkdn-s"),
        ("LKDN/LKDN_x2.pth", "lkdn"),
        ("BSRN/net_g_BSRN_x3.pth", "bsrn"),
        ("BSRN/net_g_BSRN-S.pth", "bsrn-s"),
        ("VapSR/VapSR-S.pth", "vapsr-s"),
    ],
)
def test_published_checkpoints_upscale_as_here(
    loader: "spandrel.ModelLoader", data: Path, file: str, name: str
) -> None:
    found = loader.load_from_file(data / "weights" / file)
    x = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (0, 0, 0, 3), mode="reflect") if name.startswith("bsrn") else x
    network = load_checkpoint(data / "weights" / file).build()
    with torch.no_grad():
        expected = network(padded).clamp(0, 1)[:, :, : 12 * found.scale]
    assert found.tags == [name]
    assert found.size_requirements.minimum == network.smallest
    assert found.tiling.name == ("DISCOURAGED" if name.startswith("bsrn") else "SUPPORTED")
    assert (found(x) - expected).abs().max() < 1e-5
    assert found.supports_half == name.startswith("vapsr")
    if found.supports_half:
        assert (found.half()(x.half()).float() - expected).abs().max() < 0.05

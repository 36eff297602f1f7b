"""The facts about the networks hold together, and agree with the networks and the published files."""

import hashlib
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.rgb import as_rgb
from lkdn_models.zoo import ENTRIES, Input, ZooEntry, entries, find, name_of, names, published_scale
from lkdn_models.zoo.facts import BUNDLED, HD, LR, SETS, Weights, five

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.name}-x{entry.scale}")
PUBLISHED = {entry.weights for entry in ENTRIES if entry.weights}


def without_memory(entry: ZooEntry, *, deployed: bool = False) -> nn.Module:
    with torch.device("meta"):
        return entry.build(deployed=deployed)


def layout(entry: ZooEntry) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in without_memory(entry).state_dict().items()}


def test_a_name_and_a_scale_are_there_once_and_a_name_is_one_network() -> None:
    assert len({(entry.name, entry.scale) for entry in ENTRIES}) == len(ENTRIES)
    assert len({id(entry.network) for entry in ENTRIES}) == len(names())
    for name in names():
        scales = [entry.scale for entry in entries(name)]
        assert scales == sorted(scales)
        assert set(scales) <= LR.keys()


@each_entry
def test_what_is_written_down_of_a_network_it_says_itself(entry: ZooEntry) -> None:
    network = without_memory(entry, deployed=True)
    enlarged = entry.input is Input.ENLARGED_LUMA
    assert network.scale == (1 if enlarged else entry.scale)
    assert network.peak == (255.0 if entry.input is Input.RGB_255 else 1.0)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == 1 if entry.input.luma_only else first.in_channels % 3 == 0
    deployed = as_rgb(network, entry.input, entry.scale)
    assert deployed.scale == entry.scale
    assert deployed.receptive_radius == entry.receptive_radius
    assert deployed.smallest >= network.smallest >= 1
    assert entry.input_size == (entry.counted_at or (HD if enlarged else LR[entry.scale]))


def test_weights_are_pinned_in_full() -> None:
    for weights in PUBLISHED:
        assert re.fullmatch(r"[0-9a-f]{64}", weights.sha256), weights.path
        assert re.fullmatch(r"[0-9a-f]{40}", weights.commit), weights.path
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", weights.repository), weights.path
        assert weights.licence
        assert weights.page == f"https://github.com/{weights.repository}/blob/{weights.commit}/{weights.path}"
        assert weights.url == f"https://raw.githubusercontent.com/{weights.repository}/{weights.commit}/{weights.path}"
        assert weights.path.endswith(weights.file_name)
        if weights.converter:
            assert (Path(__file__).parents[2] / weights.converter).is_file()
    assert len({weights.sha256 for weights in PUBLISHED}) == len(PUBLISHED)


def test_weights_that_serve_every_scale_are_one_set_and_fit_every_scale() -> None:
    users = defaultdict(list)
    for entry in ENTRIES:
        users[entry.weights].append(entry)
        if entry.network.shared_weights:
            same = list(entries(entry.name))
            assert len(same) > 1
            assert {other.weights for other in same} == {entry.weights}
            assert layout(entry) == layout(same[0])
    del users[None]
    for used in users.values():
        assert len(used) == 1 or used[0].network.shared_weights, used[0].name
        assert len({entry.name for entry in used}) == 1


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.printed], ids=lambda e: f"{e.name}-x{e.scale}")
def test_what_a_paper_printed_has_its_digits(entry: ZooEntry) -> None:
    printed = entry.printed
    assert re.fullmatch(r"\d+", printed.parameters)
    assert re.fullmatch(r"\d+(\.\d)?", printed.multi_adds)
    assert re.fullmatch(r"\d(, \d)*", printed.tables)
    assert printed.quality.keys() <= set(SETS)
    for psnr, ssim in printed.quality.values():
        assert re.fullmatch(r"\d\d\.\d\d", psnr)
        assert re.fullmatch(r"0\.\d{4}", ssim)


def test_what_was_measured_is_near_what_was_printed() -> None:
    for entry in ENTRIES:
        assert entry.weights is None or "Set5" in entry.measured, entry.name
        for name, (psnr, ssim) in entry.measured.items():
            assert name in SETS
            assert (psnr, ssim) == (round(psnr, 3), round(ssim, 4))
            if entry.printed and name in entry.printed.quality:
                paper_psnr, paper_ssim = map(float, entry.printed.quality[name])
                assert psnr == pytest.approx(paper_psnr, abs=0.1), entry.name
                assert ssim == pytest.approx(paper_ssim, abs=0.002), entry.name


def test_quality_is_written_down_in_the_order_of_the_test_sets_with_gaps() -> None:
    assert five("38.12/0.9611 - - 26.42/0.7965 -") == {"Set5": ("38.12", "0.9611"), "Urban100": ("26.42", "0.7965")}
    with pytest.raises(ValueError, match="shorter"):
        five("38.12/0.9611 33.90/0.9202")


def test_a_network_is_found_by_name_and_scale() -> None:
    for entry in ENTRIES:
        assert find(entry.name, entry.scale) is entry
    assert [entry.scale for entry in entries("pan")] == [2, 3, 4]


def test_one_that_is_not_there_is_refused_with_what_is() -> None:
    with pytest.raises(UsageError, match=r"no network is called edsr \(known are lkdn, lkdn-s, .*srcnn"):
        entries("edsr")
    with pytest.raises(UsageError, match="no network is called edsr"):
        find("edsr", 4)
    with pytest.raises(UsageError, match=r"lapsrn has no x3 \(it has x2, x4\)"):
        find("lapsrn", 3)


def test_every_bundled_checkpoint_is_of_an_entry() -> None:
    bundled = {entry.bundled for entry in ENTRIES if entry.bundled}
    assert bundled == set(BUNDLED.glob("*.safetensors"))
    assert find("lkdn-s", 4).bundled == BUNDLED / "lkdn-s_x4.safetensors"
    assert find("bsrn", 4).bundled is None


def test_a_published_file_tells_its_scale_unless_it_serves_several() -> None:
    for entry in ENTRIES:
        if entry.weights:
            expected = None if entry.network.shared_weights else entry.scale
            assert published_scale(entry.weights.sha256) == expected, entry.name
    assert published_scale("0" * 64) is None


@pytest.mark.parametrize("name", ["lkdn", "lkdn-s", "lkdn-c64-a32"])
def test_an_lkdn_has_its_name_in_every_form(name: str) -> None:
    spec = next(entries(name)).spec
    for block in Block:
        for upsampler in Upsampler:
            assert name_of(replace(spec, block=block, upsampler=upsampler, input_copies=1, scale=2)) == name


def test_an_lkdn_of_other_widths_is_named_after_them() -> None:
    assert name_of(LkdnSpec(2, 3, 10, 7)) == "lkdn-b3-c10-a7"


def test_files_in_the_data_folder_are_the_pinned_ones(data: Path) -> None:
    files = {path.name: path for path in (data / "weights").rglob("*") if path.is_file()}
    found: set[Weights] = {weights for weights in PUBLISHED if weights.file_name in files}
    assert found
    for weights in found:
        digest = hashlib.sha256(files[weights.file_name].read_bytes()).hexdigest()
        assert digest == weights.sha256, weights.path

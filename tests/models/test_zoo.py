"""The zoo's facts are consistent, and agree with the networks and the published files."""

import hashlib
import json
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
from lkdn_models.zoo import Input, ZooEntry, all_entries, bicubic, entries, find, name_of, names, published_scale
from lkdn_models.zoo.facts import BUNDLED, HD, LR, SETS, Weights
from lkdn_models.zoo.networks import read_networks

each_entry = pytest.mark.parametrize("entry", all_entries(), ids=lambda entry: f"{entry.name}-x{entry.scale}")
PUBLISHED = {entry.weights for entry in all_entries() if entry.weights}


def without_memory(entry: ZooEntry, *, deployed: bool = False) -> nn.Module:
    with torch.device("meta"):
        return entry.build(deployed=deployed)


def layout(entry: ZooEntry) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in without_memory(entry).state_dict().items()}


def test_a_name_and_a_scale_are_there_once_and_a_name_is_one_network() -> None:
    assert len({(entry.name, entry.scale) for entry in all_entries()}) == len(all_entries())
    assert len({id(entry.network) for entry in all_entries()}) == len(names())
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


def test_published_weights_have_an_address_and_a_converter_that_exists() -> None:
    for weights in PUBLISHED:
        assert weights.page == f"https://github.com/{weights.repository}/blob/{weights.commit}/{weights.path}"
        assert weights.url == f"https://raw.githubusercontent.com/{weights.repository}/{weights.commit}/{weights.path}"
        assert weights.path.endswith(weights.file_name)
        if weights.converter:
            assert (Path(__file__).parents[2] / weights.converter).is_file()
    assert len({weights.sha256 for weights in PUBLISHED}) == len(PUBLISHED)


def test_weights_that_serve_every_scale_are_one_set_and_fit_every_scale() -> None:
    users = defaultdict(list)
    for entry in all_entries():
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


def test_figures_of_the_paper_are_written_digit_by_digit() -> None:
    for printed in filter(None, (entry.printed for entry in all_entries())):
        assert re.fullmatch(r"\d+", printed.parameters or "0")
        assert re.fullmatch(r"\d+(\.\d)?", printed.multi_adds or "0")
        assert re.fullmatch(r"\d(, \d)*", printed.tables)
        for psnr, ssim in printed.quality.values():
            assert re.fullmatch(r"\d\d\.\d\d", psnr)
            assert re.fullmatch(r"0\.\d{4}", ssim)


def test_what_was_measured_is_near_what_was_printed() -> None:
    for entry in all_entries():
        assert entry.weights is None or "Set5" in entry.measured, entry.name
        for name, (psnr, ssim) in entry.measured.items():
            assert name in SETS
            assert (psnr, ssim) == (round(psnr, 3), round(ssim, 4))
            if entry.printed and name in entry.printed.quality:
                paper_psnr, paper_ssim = map(float, entry.printed.quality[name])
                assert psnr == pytest.approx(paper_psnr, abs=0.1), entry.name
                assert ssim == pytest.approx(paper_ssim, abs=0.002), entry.name


NETWORK = """
[net]
paper = "Nobody, 2020"
make = "pan:PAN"
weights.repository = "someone/Repo"
weights.commit = "0123456789012345678901234567890123456789"
weights.licence = "MIT"

[net.x4]
parameters = 10
multi_adds = 1
measured = "38.120/0.9611 - - 26.420/0.7965 -"
weights.path = "folder/net.pth"
weights.sha256 = "0123456789012345678901234567890123456789012345678901234567890123"
"""


def test_a_network_is_read_with_the_defaults_and_the_weights_of_both_tables() -> None:
    (entry,) = read_networks(NETWORK)
    assert (entry.name, entry.scale, entry.input, entry.multi_adds) == ("net", 4, Input.RGB, 1.0)
    assert (entry.receptive_radius, entry.printed, entry.spec) == (None, None, None)
    assert entry.measured == {"Set5": (38.12, 0.9611), "Urban100": (26.42, 0.7965)}
    assert (entry.weights.repository, entry.weights.file_name) == ("someone/Repo", "net.pth")


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        ("parameters = 10", "paramters = 10", "unknown key net.x4.paramters"),
        ("parameters = 10", "", "incomplete: missing .*'parameters'"),
        ("parameters = 10", 'parameters = "10"', "net.x4.parameters must be of type int"),
        ('make = "pan:PAN"', 'make = "pan:PAN"\ninput = "grey"', "net.input must be one of RGB"),
        ("multi_adds = 1", "multi_adds = 1\ncounted_at = [320]", "net.x4.counted_at must be a list of 2"),
        ("- - 26.420/0.7965 -", "- 26.420/0.7965", "net.x4. needs PSNR/SSIM or a dash for each of Set5"),
        ('0.7965 -"', '0.7965 38.12"', "net.x4. needs PSNR/SSIM"),
        ('sha256 = "01', 'sha256 = "', "sha256 of weights must match"),
        ('commit = "01', 'commit = "', "commit of weights must match"),
        ('licence = "MIT"', 'licence = ""', "licence of weights must match"),
        ('weights.licence = "MIT"', "", "incomplete: missing .*'licence'"),
    ],
)
def test_a_mistake_in_the_file_is_named(line: str, wrong: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_networks(NETWORK.replace(line, wrong, 1))


@pytest.mark.parametrize(
    "change",
    [
        {"path": "folder/.."},
        {"path": "folder/"},
        {"path": "..\\..\\net.pth"},
        {"path": "C:net.pth"},
        {"path": "net.pth\n"},
        {"commit": "../../x"},
        {"repository": ".\\."},
    ],
)
def test_no_name_of_weights_leads_out_of_the_cache(change: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(change))} of weights must match"):
        replace(find("lkdn", 4).weights, **change)


def test_a_network_is_found_by_name_in_any_case_and_scale() -> None:
    for entry in all_entries():
        assert find(entry.name, entry.scale) is find(entry.name.upper(), entry.scale) is entry
    assert [entry.scale for entry in entries("PAN")] == [2, 3, 4]


def test_an_unknown_network_or_scale_is_refused_with_what_may_be_meant() -> None:
    for search in (lambda: entries("Ldkn"), lambda: find("Ldkn", 4)):
        with pytest.raises(UsageError, match=r"no network is called Ldkn \(lkdn.* may be meant; lkdn-zoo list shows"):
            search()
    with pytest.raises(UsageError, match=r"no network is called qqq \(lkdn-zoo list shows"):
        entries("qqq")
    with pytest.raises(UsageError, match=r"lapsrn has no x3 \(it has x2, x4\)"):
        find("LapSRN", 3)


def test_every_bundled_checkpoint_is_of_an_entry() -> None:
    bundled = {entry.bundled for entry in all_entries() if entry.bundled}
    assert bundled == set(BUNDLED.glob("*.safetensors"))
    assert find("lkdn-s", 4).bundled == BUNDLED / "lkdn-s_x4.safetensors"
    assert find("bsrn", 4).bundled is None


def test_a_published_file_tells_its_scale_unless_it_serves_several() -> None:
    for entry in all_entries():
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


def test_every_row_of_the_papers_tables_is_in_the_zoo_digit_by_digit(data: Path) -> None:
    path = data / "paper-tables.json"
    if not path.is_file():
        pytest.skip("the paper's tables are not among the test data")
    tables = json.loads(path.read_text())["tables"]

    def figures(row: dict) -> dict[str, tuple[str, str]]:
        return {name: (pair["psnr"], pair["ssim"]) for name, pair in row["quality"].items() if pair and pair["psnr"]}

    for number, table in tables.items():
        for row in table["rows"]:
            name, scale = row.get("zoo_name"), row["scale"]
            if name is None:
                assert bicubic()[scale] == figures(row)
                continue
            printed = find(name, scale).printed
            assert number in printed.tables.split(", ")
            for key, value in (("params_K", printed.parameters), ("multi_adds_G", printed.multi_adds)):
                assert row.get(key) in (None, value)
            if number == "4":
                assert row["div2k_val_psnr"] == printed.div2k
            elif number == "3":
                optimiser, hours = row["method"].split("_")[1], row["training_time_h"]
                assert printed.trials[f"Table 3, {optimiser} in {hours} h"] == figures(row)
            else:
                assert printed.trials.get(f"Table {number}", printed.quality) == figures(row)

"""Model cards: what a log tells is in them, what it does not tell is said to be unknown."""

import json
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.release import (
    History,
    PickedWeights,
    as_toml,
    card,
    find_licence_files,
    public_path,
    read_history,
)
from lkdn_models.checkpoint import Checkpoint
from lkdn_models.training.recipe import as_table, find_recipe, from_table, read_recipe, shipped

RECIPE: dict[str, Any] = {
    "seed": 7,
    "network": {"scale": 4},
    "data": {"patch": 48, "batch": 64},
    "optimisation": {
        "iterations": 16000,
        "learning_rate": 0.005,
        "optimiser": "adan",
        "betas": [],
        "loss": "l1",
        "warm_up": 100,
        "milestones": [8000, 12000],
        "factor": 0.5,
        "tail": 0.4,
        "ema": 0.999,
        "max_grad_norm": math.inf,
    },
}
LOG: list[dict[str, Any]] = [
    {
        "step": 0,
        "recipe": RECIPE,
        "init": "/home/somebody/runs/stage1/weights.safetensors",
        "data": {"folders": ["/home/somebody/data/DIV2K", "Flickr2K"], "images": 3450, "megapixels": 9876.5},
        "bicubic": {"Set5": {"psnr_y": 28.4287, "ssim_y": 0.81099}, "Set14": {"psnr_y": 26.1, "ssim_y": 0.7}},
        "tools": {"torch": "9.7"},
    },
    {"step": 60, "iterations": 20000, "iterations_before": 16000},
    {"step": 100, "loss": 0.05, "lr": 0.005},
    *(
        {
            "step": step,
            "validation": {"Set5": {"psnr_y": psnr, "ssim_y": 0.88}, "Set14": {"psnr_y": 27.5, "ssim_y": 0.77}},
        }
        for step, psnr in ((500, 30.0), (1000, 31.17349), (1500, 31.17349), (2000, 31.1))
    ),
]
PICKED = PickedWeights(Path("best.safetensors"), 1000, "Set5", read_history(LOG))
SMALL = LkdnSpec.lkdn_s(4)
EMPTY = PickedWeights(Path("weights.safetensors"), None, None, History())


def card_of(picked: PickedWeights = PICKED, spec: LkdnSpec = SMALL, **tools: str) -> str:
    return card(picked, Checkpoint(picked.path, spec, {}, "ab" * 32), 1.23e-6, tools)


def section(text: str, name: str) -> str:
    return re.split(r"^## ", text.partition(f"\n## {name}\n")[2], flags=re.M)[0]


def test_the_card_tells_what_is_known() -> None:
    text = card_of(torch="9.8")
    for told in ("129,177", "172,449", "ab" * 32, "torch 9.7", "torch 9.8", "1.2e-06"):
        assert told in text
    assert "lkdn-s_x4.onnx" in text
    assert "lkdn-s_x4.safetensors" in text
    training = section(text, "Training")
    for told in (
        "L1",
        "Adan",
        "0.005",
        "first 100 steps",
        "0.5",
        "8,000, 12,000",
        "40 %",
        "until step 60 the run was planned for 16,000",
        "64 crops",
        "48",
        "seed: 7",
    ):
        assert told in training, told
    assert "steps: 1,000 of 20,000" in training
    assert "3,450" in section(text, "Data")
    assert "9,876.5" in section(text, "Data")
    assert "unknown" not in text


def test_quality_is_that_of_these_weights_beside_bicubic() -> None:
    quality = section(card_of(), "Quality")
    assert "| Set5 | 31.173 / 0.8800 | 28.429 / 0.8110 |" in quality
    assert "| Set14 | 27.500 / 0.7700 | 26.100 / 0.7000 |" in quality
    assert "picked" in quality, "that they were chosen by this set is told"
    newest = section(card_of(replace(PICKED, step=2000, best_on=None)), "Quality")
    assert "| Set5 | 31.100 /" in newest
    assert "picked" not in newest
    between = section(card_of(replace(PICKED, step=1200, best_on=None)), "Quality")
    assert "Unknown" in between
    assert "|" not in between, "figures of other weights are not given for these"


def test_what_the_log_lacks_is_unknown_and_not_made_up() -> None:
    text = card_of(EMPTY)
    assert "None" not in text
    assert "```toml" not in text
    for name in ("photographs", "megapixels in all", "folders", "loss", "optimiser", "learning rate", "seed"):
        assert re.search(rf"^- {name}: unknown$", text, re.M), name
    assert re.search(r"^- started from: unknown$", text, re.M)
    for name in ("steps", "batch"):
        assert re.search(rf"^- {name}: unknown", text, re.M), name
    assert "Unknown" in section(text, "Quality")
    assert not re.search(r"\d", section(text, "Training"))


def test_the_licence_is_asked_for_and_its_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "DIV2K").mkdir()
    (tmp_path / "DIV2K" / "SOURCES.md").touch()
    history = replace(PICKED.history, folders=(str(tmp_path / "DIV2K"), "Flickr2K"))
    licence = section(card_of(replace(PICKED, history=history)), "Licence")
    assert "To be filled in" in licence
    assert "/DIV2K/SOURCES.md`" in licence
    assert "`Flickr2K`" in licence
    assert "stage1/weights.safetensors" in licence, "its licence binds too"
    scratch = section(card_of(replace(PICKED, history=replace(PICKED.history, init=""))), "Licence")
    assert "started from" not in scratch
    assert "To be filled in" in section(card_of(EMPTY), "Licence")


def test_files_that_tell_of_licences_are_found(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("told", "silent", "gone")]
    for folder in folders[:2]:
        folder.mkdir()
    for name in ("LICENSE.txt", "sources.md", "Credits", "0001.png"):
        (folders[0] / name).touch()
    files, absent = find_licence_files(map(str, folders))
    assert [Path(file).name for file in files] == ["Credits", "LICENSE.txt", "sources.md"]
    assert [Path(folder).name for folder in absent] == ["gone"]


def test_a_card_does_not_tell_whose_machine_it_was() -> None:
    assert "somebody" not in card_of()
    assert public_path("/home/somebody/data/DIV2K") == "data/DIV2K"
    assert public_path("data/sets/DIV2K") == "data/sets/DIV2K"
    assert public_path("/") == "/"


@pytest.mark.parametrize("name", shipped())
def test_the_recipe_in_the_card_is_the_recipe(name: str) -> None:
    recipe = read_recipe(find_recipe(name))
    history = read_history([{"step": 0, "recipe": json.loads(json.dumps(as_table(recipe)))}])
    text = card_of(replace(PICKED, history=history))
    block = text.partition("```toml\n")[2].partition("```")[0]
    assert from_table(tomllib.loads(block)) == recipe


def test_toml_holds_every_kind_of_value() -> None:
    table = {"a": 'quo"te\\é\n', "b": True, "c": [1, 2.5], "d": math.inf, "e": {"f": 1e-7, "g": []}}
    assert tomllib.loads(as_toml({**table, "nothing": None})) == table


@pytest.mark.parametrize("strange", [None, 3, "x", [], {}, [3], {"Set5": 3}, {"Set5": {"psnr_y": "x"}}])
def test_a_strange_log_gives_a_card_too(strange: Any) -> None:
    keys = ("recipe", "init", "data", "bicubic", "validation")
    log = [{"step": 0, **dict.fromkeys(keys, strange)}, {"step": 1, "recipe": dict.fromkeys(RECIPE, strange)}]
    text = card_of(replace(PICKED, history=read_history(log)))
    assert "unknown" in text


def test_names_do_not_break_the_markdown() -> None:
    log = [
        {"step": 0, "recipe": {}, "data": {"folders": ["a`b|c"]}},
        {"step": 1, "validation": {"x|y": {"psnr_y": 30.0}}},
    ]
    text = card_of(replace(PICKED, step=1, history=read_history(log)))
    assert r"| x\|y | 30.000 | unknown |" in text
    assert "`a?b|c`" in text


def test_a_network_without_branches_is_not_said_to_be_fused() -> None:
    text = card_of(spec=LkdnSpec.lkdn(4))
    assert text.count("321,992") == 1
    assert "the same, compared" in text

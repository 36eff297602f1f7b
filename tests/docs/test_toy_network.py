"""The page on adding a network, done as it says in a copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks
from readers_folder import make_pictures

MAKE = """
import torch
from lkdn_models.nets.mynet import MyNet
torch.manual_seed(0)
torch.save(MyNet(4).state_dict(), "mynet_x4.pth")
"""


@pytest.mark.long
def test_a_network_is_added_as_the_page_says(tmp_path: Path) -> None:
    page = blocks(ROOT / "docs" / "add-a-network.md")
    copy = tmp_path / "models"
    shutil.copytree(ROOT / "models" / "lkdn_models", copy / "lkdn_models", ignore=shutil.ignore_patterns("__pycache__"))
    (code,) = (block.code for block in page if block.language == "python")
    (table,) = (block.code for block in page if block.language == "toml")
    (copy / "lkdn_models" / "nets" / "mynet.py").write_text(code, encoding="utf-8")
    with (copy / "lkdn_models" / "zoo" / "networks.toml").open("a", encoding="utf-8") as file:
        file.write("\n" + table)
    make_pictures(tmp_path)
    environment = os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{ROOT}"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-c", MAKE)
    printed = run("-c", "from lkdn_deploy.cli import zoo; zoo()", "check")
    assert any(line.split()[:1] == ["mynet"] for line in printed.splitlines()), printed
    assert "9,728 parameters, 0.5557 G Multi-Adds" in run(
        "-c", "from lkdn_deploy.cli import zoo; zoo()", "show", "mynet"
    )
    for name, *words in page[-1].commands:
        run("-c", f"from lkdn_deploy.cli import {name.removeprefix('lkdn-')} as main; main()", *words)
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "out2.png").read_bytes()

"""Each command works with the extras that are meant for it, and names one of them where it is missing."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lkdn_deploy.core.optional import EXTRAS
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.samples import sample_pixels

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MODULES = {
    "cuda-python": {"cuda"},
    "onnxruntime-gpu": {"onnxruntime"},
    "onnxscript": {"onnxscript", "onnx_ir"},
    "prometheus-client": {"prometheus_client"},
    "tensorrt-rtx": {"tensorrt_rtx"},
    "torch": {"torch", "filelock"},
}
"""Importable names of the distributions in the extras, where they differ from the distribution's name."""

UPSCALE = "upscale in.png out.png --overwrite"
TRAIN = {
    f"{UPSCALE} --weights tiny.safetensors",
    "export --onnx --weights tiny.safetensors -o exported --overwrite",
    "export --onnx --fp16 --weights tiny.safetensors -o exported --overwrite",
    "train tiny.toml --data photos -o run",
    "train plot run -o curves.png --overwrite",
    "train export run -o released --overwrite",
    "eval --weights tiny.safetensors --data photos",
}
ANY = {"zoo list", "zoo show lkdn-s", "zoo engines"}
WORKS: dict[str, set[str]] = {
    "": ANY,
    "native": ANY | {UPSCALE, f"{UPSCALE} --backend native"},
    "cpu": ANY | {UPSCALE, f"{UPSCALE} --backend ort-cpu"},
    "openvino": ANY | {UPSCALE, f"{UPSCALE} --backend openvino"},
    "train": ANY | TRAIN | {UPSCALE},
    "bench": ANY
    | TRAIN
    | {
        UPSCALE,
        "bench --predict rtx3080 --model lkdn-s",
        "bench compare bench.json bench.json",
    },
}
"""Commands that an extra is enough for."""
COMMANDS = sorted(set().union(*WORKS.values()), key=lambda line: (".toml" not in line, line))  # others read its run

RUN = """
import contextlib, importlib, io, json, sys
blocked, lines = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))
from lkdn_deploy.cli._shell import run
for line in lines:
    name, *args = line.split()
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        try:
            status = run(importlib.import_module(f"lkdn_deploy.cli.{name}").command, args)
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"
    print(json.dumps([line, status, said.getvalue()]))
"""


def modules(extra: str) -> set[str]:
    """Return what an extra makes importable."""
    found: set[str] = set()
    for requirement in PROJECT["optional-dependencies"].get(extra, ()):
        name = re.split(r"[^\w-]", requirement)[0]
        inner = re.match(r"lkdn-deploy\[(.*)\]", requirement)
        found |= modules(inner[1]) if inner else MODULES.get(name, {name})
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import torch
    from PIL import Image

    from lkdn_deploy.bench.results import Protocol, Report, Settings, write_report
    from lkdn_models.checkpoint import save_checkpoint
    from lkdn_models.nets.lkdn import LKDN

    Image.fromarray(sample_pixels()[:24, :24]).save(tmp_path / "in.png")
    (tmp_path / "photos").mkdir()
    Image.fromarray(sample_pixels()[:64, :64]).save(tmp_path / "photos" / "a.png")
    write_report(tmp_path / "bench.json", Report(Settings(Protocol.STEADY, (180, 320), 1, 1, 0), (), {}, "2026"))
    torch.manual_seed(0)
    spec = LkdnSpec(2, 1, 8, 8)
    save_checkpoint(tmp_path / "tiny.safetensors", spec, LKDN(spec).state_dict())
    (tmp_path / "tiny.toml").write_text(
        "log_every = 1\n[network]\nscale = 2\nblocks = 1\nchannels = 8\nattention_channels = 8\n"
        "[data]\npatch = 8\nbatch = 1\n[optimisation]\niterations = 1\nlearning_rate = 0.001\n"
    )
    return tmp_path


def outcomes(extra: str, folder: Path, commands: list[str]) -> dict[str, tuple[Any, str]]:
    """Run commands in a process that has only the packages of an extra, and return their statuses and messages."""
    blocked = sorted(
        {name for each in PROJECT["optional-dependencies"] for name in modules(each)} & set(ALL) - modules(extra)
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([blocked, commands])],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == len(commands), done.stderr[-2000:]
    return {line: (status, said) for line, status, said in lines}


ALL = {*EXTRAS, "pycuda", "cuda", "tensorrt", "tensorrt_rtx"}


LONG = [pytest.param(extra, marks=pytest.mark.long) for extra in ("train", "bench")]


@pytest.mark.parametrize("extra", ["", "native", "cpu", "openvino", *LONG])
def test_every_command_works_or_names_an_extra_with_which_it_does(extra: str, folder: Path) -> None:
    for line, (status, said) in outcomes(extra, folder, COMMANDS).items():
        if line in WORKS[extra]:
            assert status == 0, (line, status, said)
        elif status != 0:
            assert status == 3, (line, status, said)
            named = re.findall(r"pip install '\.\[([\w-]+)\]'", said)
            assert named, (line, said)
            assert all(line in WORKS[name] for name in named), (line, said)

"""The examples of job arrays: what their tasks run covers all inputs, and the files agree with themselves."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import ROOT
from readers_folder import make_pictures

from lkdn_deploy.runtime.jobs import Shard

SLURM = ROOT / "examples" / "slurm.sh"


def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "kubernetes_job.yaml").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pictures in ``photos``, and the command as a program in ``bin``."""
    make_pictures(tmp_path)
    program = tmp_path / "bin" / "lkdn-upscale"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from lkdn_deploy.cli import upscale; upscale()" "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(folder: Path, words: list[str], **variables: str) -> None:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def shares(folder: Path) -> tuple[set[str], set[str]]:
    """Return the names of outputs and of journals."""
    outputs = {path.relative_to(folder / "large").as_posix() for path in (folder / "large").rglob("*.png")}
    return outputs, {path.name for path in (folder / "large").glob(".lkdn*")}


def expected(relative: list[str], count: int) -> set[str]:
    found = {next(k for k in range(1, count + 1) if Shard(k, count).takes(Path(name))) for name in relative}
    return {f".lkdn-upscale.{k}of{count}.jsonl" for k in found}


NAMES = ["one.png", "trip/two.png"]


def test_the_tasks_of_the_slurm_array_cover_all_inputs(folder: Path) -> None:
    text = SLURM.read_text(encoding="utf-8")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.+)$", text, re.MULTILINE))
    assert re.fullmatch(r"1-\d+", options["array"])
    assert "set -eu" in text
    assert os.access(SLURM, os.X_OK)
    for task in ("1", "2"):
        variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
        run(folder, [str(SLURM), "photos", "large"], **variables)
    assert shares(folder) == ({*NAMES}, expected(NAMES, 2))


def test_the_indexes_of_the_kubernetes_job_cover_all_inputs(folder: Path) -> None:
    spec = job()["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", int(variables["SHARES"]))
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] == container["name"]
    volumes = {each["name"] for each in spec["template"]["spec"]["volumes"]}
    (mount,) = container["volumeMounts"]
    assert mount["name"] in volumes
    assert all(variables[name].startswith(mount["mountPath"]) for name in ("IN", "OUT"))
    variables |= {"IN": "photos", "OUT": "large", "SHARES": "2"}
    for index in ("0", "1"):
        run(folder, container["command"], JOB_COMPLETION_INDEX=index, **variables)
    assert shares(folder) == ({*NAMES}, expected(NAMES, 2))

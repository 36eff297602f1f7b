"""Runs on a folder that are killed, or share it: what is finished stays, and is not computed twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lkdn_deploy.samples import sample_pixels

JOURNAL = ".lkdn-upscale.jsonl"

# The command, which writes down what goes through the network, and may end itself around the naming of an output.
DRIVER = """
import os, pathlib, signal, sys
from lkdn_deploy.cli._outcomes import OutcomePrinter
from lkdn_deploy.cli.upscale import main

log, moment = sys.argv.pop(1), sys.argv.pop(1)
shown, replace = OutcomePrinter.progress, pathlib.Path.replace

def watched(self, job, done, total):
    if done == 0:
        with open(log, "a") as file:
            file.write(job.source.name + "\\n")
    shown(self, job, done, total)

def replacing(self, target):
    at = moment.partition(" ")
    if at[0] == "before" and pathlib.Path(target).name == at[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    result = replace(self, target)
    if at[0] == "after" and pathlib.Path(target).name == at[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

OutcomePrinter.progress, pathlib.Path.replace = watched, replacing
main()
"""


def started(folder: Path, target: str, *, moment: str = "", log: str = "log") -> "subprocess.Popen[str]":
    (folder / log).write_text("")
    words = [
        sys.executable,
        "-c",
        DRIVER,
        log,
        moment,
        "in",
        target,
        "--recursive",
        "--resume",
        "--scale",
        "2",
        "--json",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def computed(folder: Path, log: str = "log") -> list[str]:
    return (folder / log).read_text().split()


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.png") if not path.name.startswith(".")}


def pictures(folder: Path, count: int) -> Path:
    for index in range(count):
        path = folder / "in" / "abc"[index % 3] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(sample_pixels()[:40, :48], index, axis=1)).save(path)
    return folder


def kill_at_random(process: "subprocess.Popen[str]", folder: Path, chance: random.Random, most: int) -> None:
    """Kill a program while it starts, or during one of the next pictures, whatever the speed of the machine is."""
    begun = chance.randrange(most)
    while process.poll() is None and len(computed(folder)) < begun:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.4 if begun == 0 else 0.01))
    process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(("count", "kills"), [(20, 2), pytest.param(160, 20, marks=pytest.mark.long)])
def test_killed_runs_and_one_more_give_what_one_run_gives_and_compute_nothing_finished_twice(
    tmp_path: Path, count: int, kills: int
) -> None:
    pictures(tmp_path, count)
    whole = started(tmp_path, "whole")
    _, err = whole.communicate()
    assert whole.returncode == 0, err
    expected = outputs(tmp_path / "whole")
    assert len(expected) == len(set(computed(tmp_path))) == count

    chance = random.Random(kills)  # noqa: S311 - moments, not secrets
    moments = ["before 003.png", "after 006.png", *[""] * kills]
    for moment in [*moments, "never"]:
        finished = outputs(tmp_path / "out")
        process = started(tmp_path, "out", moment=moment)
        if moment == "":
            kill_at_random(process, tmp_path, chance, count // kills)
        said, err = process.communicate()
        assert process.returncode == (0 if moment == "never" else -signal.SIGKILL), err
        again, now = computed(tmp_path), outputs(tmp_path / "out")
        assert not set(again) & finished.keys()
        assert len(again) == len(set(again))
        assert finished.items() <= now.items() <= expected.items()
    assert now == expected
    lines = [json.loads(line) for line in said.splitlines()]
    assert {Path(line["input"]).name for line in lines if line["status"] == "skipped"} == finished.keys()
    assert 0 < len(finished) < count


def test_two_runs_on_one_folder_both_go_on_and_nothing_is_lost(tmp_path: Path) -> None:
    pictures(tmp_path, 16)
    both = [started(tmp_path, "out", log=f"log {index}") for index in range(2)]
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 0, err
    names = {f"{index:03}.png" for index in range(16)}
    assert set(outputs(tmp_path / "out")) == names
    assert set(computed(tmp_path, "log 0")) | set(computed(tmp_path, "log 1")) == names
    lines = (tmp_path / "out" / JOURNAL).read_text().split("\n")
    assert lines[0] == ""
    assert {Path(json.loads(line)["output"]).name for line in lines[1:]} == names
    third = started(tmp_path, "out")
    third.communicate()
    assert third.returncode == 0
    assert computed(tmp_path) == []

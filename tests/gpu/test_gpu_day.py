"""The run on a borrowed GPU is rehearsed with the stand-in of a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "gpu_day.py"


@pytest.mark.long
def test_the_run_ends_with_all_steps_done_and_a_log_of_each(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    command = [sys.executable, TOOL, "run", tmp_path / "pack", tmp_path / "results", "--rehearsal"]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert list(summary) == ["facts", "device", "table4"]
    assert " passed" in (tmp_path / "results" / "device.log").read_text()
    rows = json.loads((tmp_path / "results" / "table4.json").read_text())["rows"]
    assert {row["network"] for row in rows} >= {"lkdn", "lkdn-s", "bsrn"}


@pytest.mark.long
def test_a_step_that_takes_too_long_is_stopped_and_the_rest_left_out(tmp_path: Path) -> None:
    command = [sys.executable, TOOL, "run", tmp_path / "pack", tmp_path / "results", "--rehearsal", "--minutes", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert set(json.loads((tmp_path / "results" / "summary.json").read_text()).values()) == {"left out: no time"}

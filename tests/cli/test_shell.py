"""Behaviour that all commands share, in processes of their own with real pipes and descriptors."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lkdn_deploy.samples import sample_pixels

PYTHON = f"{sys.executable} -c 'from lkdn_deploy.cli.{{}} import main; main()'"
ZOO, UPSCALE = PYTHON.format("zoo"), PYTHON.format("upscale")
SAMPLE = Path(__file__).parents[2] / "lkdn_deploy" / "samples" / "dandelion.png"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    done = shell(f"{ZOO} list | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_before_the_work_is_done_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "in" / f"{number}.png")
    folders = f"{tmp_path / 'in'} {tmp_path / 'out'}"
    done = shell(f"{UPSCALE} {folders} --scale 2 > >(exec true); exit $?")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "2 images left to upscale\nhint: give the same command with --resume\n" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_stdout_is_one_clear_line() -> None:
    done = shell(f"{ZOO} list > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_work_is_done_where_stderr_is_closed(tmp_path: Path) -> None:
    done = shell(f"{UPSCALE} {SAMPLE} {tmp_path / 'out.png'} 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize(("args", "code"), [("--help", 0), ("--version", 0), ("--no-such-option", 2), ("", 2)])
def test_help_and_wrong_usage(args: str, code: int) -> None:
    done = shell(f"{UPSCALE} {args}")
    assert done.returncode == code
    assert (done.stdout == "") == (code != 0)


def test_an_interrupt_ends_with_130_and_leaves_no_file(tmp_path: Path) -> None:
    Image.fromarray(np.tile(sample_pixels(), (6, 6, 1))).save(tmp_path / "in.png")
    args = ["in.png", "out.png", "--tile", "8"]
    code = "from lkdn_deploy.cli.upscale import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell lets its background jobs ignore it
    )
    time.sleep(3)  # the whole of it would take minutes
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.decode().strip() == "interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


SLEEPER = """
import sys, time
import click
from lkdn_deploy.cli._shell import run

@click.command()
def command():
    print("ready", flush=True)
    time.sleep(20)

sys.exit(run(command, []))
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_a_command_without_a_traceback(name: str, code: int) -> None:
    number = getattr(signal, name)
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup, and jobs in the background, ignore some
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, errors) == (code, "interrupted\n")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("in.png", "in.onnx", "in.pth"):
        os.mkfifo(tmp_path / name)
    for source, model in (
        (tmp_path / "in.png", "lkdn-s"),
        (SAMPLE, tmp_path / "in.onnx"),
        (SAMPLE, tmp_path / "in.pth"),
    ):
        done = shell(f"timeout 20 {UPSCALE} {source} {tmp_path / 'out.png'} --model {model}")
        assert done.returncode == 1
        assert "cannot be read: it is not a regular file" in done.stderr


def test_what_a_killed_run_left_is_not_taken_for_a_picture_and_removed_in_time(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    shutil.copy(SAMPLE, tmp_path / "in" / "a.png")
    shutil.copy(SAMPLE, tmp_path / "in" / ".0123456789ab.part.png")
    old, new, other = (tmp_path / "out" / f".{name}.part.png" for name in ("0123456789ab", "0123456789ac", "mine"))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    done = shell(f"{UPSCALE} {tmp_path / 'in'} {tmp_path / 'out'} --scale 2")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "a.png",
        ".lkdn-upscale.jsonl",
        new.name,
        other.name,
    }


@pytest.mark.parametrize(
    "error", ["MemoryError()", 'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory: 8 bytes")']
)
def test_a_lack_of_memory_is_one_clear_line(error: str) -> None:
    code = (
        "import sys, click; from lkdn_deploy.cli._shell import run\n"
        f"@click.command()\ndef command():\n    raise {error}\nsys.exit(run(command, []))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: memory ran out"
    assert len(done.stderr.splitlines()) == 2

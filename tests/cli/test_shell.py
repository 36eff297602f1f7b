"""What every command does alike, in processes of their own with real pipes and descriptors."""

import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = f"{sys.executable} -c 'from lkdn_deploy.cli.{{}} import main; main()'"
ZOO, UPSCALE = PYTHON.format("zoo"), PYTHON.format("upscale")
SAMPLE = Path(__file__).parents[2] / "lkdn_deploy" / "samples" / "dandelion.png"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    done = shell(f"{ZOO} list | true; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


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

"""The pages and the programs say the same: figures, messages, examples."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.upscale import command as upscale
from lkdn_deploy.core.errors import ExitCode


def test_the_figures_of_the_readme_are_those_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from readme_figures import BEGIN, END, table

    written = (ROOT / "README.md").read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert "\n".join(table()) in written
    assert re.search(r"recorded \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d", written)


def test_the_costs_on_the_page_of_scaling_follow_from_what_was_measured() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    measured = json.loads((ROOT / "benchmarks" / "results" / "pipe.json").read_text(encoding="utf-8"))
    ends = measured["ends"]["formats"]
    seconds = {name: ends["png"][name]["median"] for name in ("read", "upscale", "write")}
    core_seconds = 2 * sum(seconds.values())
    assert (measured["machine"]["cores"], measured["ends"]["input"]) == (2, "1000x1000")
    assert f"{1e6 * core_seconds / 3600:.0f} core-hours" in page
    assert f"{sum(seconds.values()):.2f} s a picture" in page
    result = measured["png_encoders"]["encoders"]["write_picture, threads=None"]["bytes"]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) (h|days) \| ([\d.]+) \| ([\d.]+) (MB|GB) \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for cores, time, unit, rate, size, prefix in rows:
        hours = 1e6 * core_seconds / int(cores) / 3600
        assert float(time) == round(hours if unit == "h" else hours / 24, 1)
        a_second = int(cores) / core_seconds
        assert float(rate) == pytest.approx(a_second, rel=0.02)
        assert float(size) == pytest.approx(a_second * result / (1e6 if prefix == "MB" else 1e9), rel=0.05)
    for name in ("png", "jpeg"):
        both = 2 * (ends[name]["read"]["median"] + ends[name]["write"]["median"])
        assert f"{both:.2f} for" in page


def test_the_message_on_the_page_of_errors_is_the_program_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(upscale, ["missing.png", "out.png"]) == ExitCode.INPUT_FAILED
    assert f"```text\n{capsys.readouterr().err}```" in (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")


def test_the_page_of_errors_has_every_exit_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert [code for code in ExitCode if not re.search(rf"^\| {code.value}[ ,]", page, re.MULTILINE)] == []


def test_a_report_gets_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(upscale, ["--version", "--verbose"]) == 0
    found = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert found["version"] == __version__
    assert "native" in found["backends installed"].split(", ")
    assert "click" in found["packages"]
    assert {"system", "python", "cpu", "instructions", "cores", "memory", "gpus", "cache"} <= found.keys()
    assert run(upscale, ["--version"]) == 0
    assert capsys.readouterr().out == f"lkdn-upscale, version {__version__}\n"


def example(name: str, *args: str | Path, folder: Path) -> str:
    words = [sys.executable, str(ROOT / "examples" / name), *map(str, args)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_arrays_runs(tmp_path: Path) -> None:
    said = example("upscale_array.py", folder=tmp_path)
    assert said.splitlines() == [
        "(180, 240, 3) -> (360, 480, 3)",
        "with alpha: (360, 480, 4)",
        "16 bits: uint16",
        "1 tile, exact: True",
    ]


@pytest.mark.long
def test_the_examples_of_export_and_benchmark_run(tmp_path: Path) -> None:
    said = example("export_and_verify.py", folder=tmp_path)
    assert said.count("max difference") == 3
    path = tmp_path / "artefacts" / "network.onnx"
    assert path.is_file()
    bundled = ROOT / "lkdn_deploy" / "runtime" / "artefacts" / "lkdn-s_x4.onnx"
    timed = example("benchmark_two_files.py", bundled, path, folder=tmp_path)
    assert timed.count(" ms\n") == 2
    assert "of the first: not told apart" in timed or "of the first: told apart" in timed


def test_every_example_is_run_here() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {
        "upscale_array.py",
        "export_and_verify.py",
        "benchmark_two_files.py",
    }

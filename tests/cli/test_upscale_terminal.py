"""The display of ``lkdn-upscale`` on a terminal and in a log, and the completion of commands by shells."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_pictures import save_pictures

import lkdn_deploy.cli._progress as progress
from lkdn_deploy.cli._outcomes import OutcomePrinter
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.upscale import command

Upscale = Callable[..., int]


def test_what_is_printed_is_little_or_much_as_asked(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "in", "a.png")
    (tmp_path / "in" / "b.txt").touch()
    said = {}
    for option in ("--quiet", "--verbose", "--overwrite"):
        assert upscale(tmp_path / "in", tmp_path / option, option) == 0
        said[option] = capsys.readouterr()
        assert said[option].out == f"{tmp_path / option / 'a.png'}\n"
    assert said["--quiet"].err == ""
    assert "14x12 -> 28x24 with" in said["--verbose"].err
    assert f"not taken: {tmp_path / 'in' / 'b.txt'}: .txt" in said["--verbose"].err
    assert len(said["--overwrite"].err.splitlines()) == 2
    assert upscale(tmp_path / "in", tmp_path / "--verbose", "--verbose", "--resume") == 0
    assert "skipped" in capsys.readouterr().err


def test_a_run_that_is_interrupted_says_how_far_it_came(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path / "in", *(f"{index}.png" for index in range(5)))
    shown = OutcomePrinter.progress

    def interrupting(self: OutcomePrinter, job: Any, done: int, total: int) -> None:
        if job.source.name == "3.png":
            raise KeyboardInterrupt
        shown(self, job, done, total)

    monkeypatch.setattr(OutcomePrinter, "progress", interrupting)
    assert upscale(tmp_path / "in", tmp_path / "out") == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("2 done, 0 skipped, 0 failed of 5 images")
    assert lines[1:] == ["hint: the same command with --resume goes on from here", "interrupted"]
    monkeypatch.undo()
    assert upscale(tmp_path / "in", tmp_path / "out", "--resume") == 0
    assert "2 done, 3 skipped" in capsys.readouterr().err


def test_a_log_gets_plain_lines_when_work_is_long(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path / "in", "a.png", "b.png", "c.png")
    monkeypatch.setattr(progress, "INTERVAL", 3600)
    assert upscale(tmp_path / "in", tmp_path / "short") == 0
    assert "progress: " not in capsys.readouterr().err
    monkeypatch.setattr(progress, "INTERVAL", 0)
    assert upscale(tmp_path / "in", tmp_path / "out") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("progress: ")]
    assert lines[0] == "progress: 0 of 3 images, 0%, at a.png"
    assert lines[-1] == "progress: 3 of 3 images, 100%"
    assert any(" left, at " in line for line in lines)
    assert upscale(tmp_path / "in", tmp_path / "quiet", "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_bars_that_do_not_go_back(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path / "in", "a.png", "b\x1b[31m.png", "c.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_PATIENCE", 0)
    reached: list[float] = []
    moved = progress.ProgressDisplay._move_all

    def watched(self: progress.ProgressDisplay) -> None:
        moved(self)
        reached.append(self._bars["all"].n)

    monkeypatch.setattr(progress.ProgressDisplay, "_move_all", watched)
    assert upscale(tmp_path / "in", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "/3 images" in said
    assert "c.png" in said
    assert "\x1b[31m" not in said
    assert reached == sorted(reached)
    assert reached[-1] == 3


@pytest.mark.parametrize(
    ("shell", "part"), [("bash", "complete -o nosort -F"), ("zsh", "#compdef"), ("fish", "complete ")]
)
@pytest.mark.parametrize("name", ["upscale", "train"])
def test_shells_get_their_completion(
    shell: str, part: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = importlib.import_module(f"lkdn_deploy.cli.{name}").command
    monkeypatch.setattr(sys, "argv", [f"/somewhere/lkdn-{name}"])
    variable = f"_LKDN_{name.upper()}_COMPLETE"
    monkeypatch.setenv(variable, f"{shell}_source")
    assert run(asked) == 0
    script = capsys.readouterr().out
    assert part in script
    assert f"lkdn-{name}" in script
    monkeypatch.setenv(variable, "fish_complete")
    for beginning, expected in {
        "upscale": [("--skip", "--skip-existing"), ("--form", "--format")],
        "train": [("pl", "plot")],
    }[name]:
        monkeypatch.setenv("COMP_WORDS", f"lkdn-{name} {beginning}")
        monkeypatch.setenv("COMP_CWORD", beginning)
        assert run(asked) == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize(("words", "got"), [([], "neither"), (["in.png"], "only in.png")])
def test_a_missing_output_is_not_taken_for_a_missing_input(
    words: list[str], got: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, words) == 2
    assert f"expected an input and an output, got {got}\nhint: for example" in capsys.readouterr().err

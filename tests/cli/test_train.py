"""``lkdn-train`` by its command line: what it takes for a recipe, its help, and what it makes of finished runs.

The run folders are made by hand here; training itself is tested in tests/models.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lkdn_deploy.export.job as job
from lkdn_deploy import load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.train import command
from lkdn_deploy.core.errors import ExitCode, VerificationError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_deploy.export.release import pick_weights
from lkdn_models.checkpoint import load_checkpoint, save_checkpoint
from lkdn_models.training.recipe import shipped

STEM = "lkdn-b1-c8-a8_x2"
START = {
    "step": 0,
    "recipe": {"seed": 3, "optimisation": {"loss": "l1", "iterations": 2000, "learning_rate": 0.01}},
    "init": "",
    "data": {"folders": ["photos"], "images": 12, "megapixels": 3.5},
    "bicubic": {"Set5": {"psnr_y": 33.66, "ssim_y": 0.93}},
}
LOSSES = [{"step": step, "loss": 1 / step, "lr": 0.01} for step in range(100, 2001, 100)]
VALIDATIONS = [
    {"step": step, "validation": {"Set5": {"psnr_y": psnr, "ssim_y": 0.95}}}
    for step, psnr in ((1000, 36.5), (2000, 36))
]
STEPS = {"best.safetensors": 1000, "weights.safetensors": 2000}
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def weights(random_checkpoint: Callable[[LkdnSpec], Path]) -> Path:
    return random_checkpoint(LkdnSpec(2, 1, 8, 8, Block.RBSB, Upsampler.REP))


@pytest.fixture
def make(tmp_path: Path, weights: Path) -> Make:
    """Makes a run folder as a training leaves it, with the weights files named."""

    def folder(name: str, *files: str, validated: bool = True) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        lines = [START, *LOSSES, *(VALIDATIONS if validated else [])]
        (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        saved = load_checkpoint(weights)
        for file in files:
            save_checkpoint(path / file, saved.spec, saved.state, STEPS[file])
        return path

    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for ``run`` that records its arguments."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(command.commands["run"], "callback", lambda **values: found.update(values))
    return found


@pytest.mark.parametrize(
    "args",
    [
        ["run", "tiny", "--data", "photos"],
        ["tiny", "--data", "photos"],
        ["--data", "photos", "tiny"],
        ["--data=photos", "--resume", "tiny"],
    ],
)
def test_a_recipe_needs_no_command_before_it(args: list[str], asked: dict[str, Any]) -> None:
    assert run(command, args) == 0
    assert asked["recipe"] == "tiny"
    assert asked["data"] == (Path("photos"),)
    assert asked["resume"] == ("--resume" in args)


@pytest.mark.parametrize("args", [["./plot", "--data", "d"], ["run", "plot", "--data", "d"], ["--data", "d", "plot"]])
def test_a_recipe_may_be_named_like_a_command(args: list[str], asked: dict[str, Any]) -> None:
    assert run(command, args) == 0
    assert Path(asked["recipe"]) == Path("plot")


def test_no_shipped_recipe_is_named_like_a_command() -> None:
    assert not set(shipped()) & set(command.commands)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Usage: "),
        (["tiny"], "--data"),
        (["--no-such-option"], "--no-such-option"),
        (["plot"], "RUN"),
        (["export"], "RUN"),
        (["plot", "a", "-o", "curves.doc"], ""),
    ],
)
def test_wrong_usage(args: list[str], message: str, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    args = [str(make(arg)) if arg == "a" else arg for arg in args]
    assert run(command, args) == ExitCode.USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


@pytest.mark.parametrize("task", ["", "run", "plot", "export", "tiny"])
def test_help_fits_80_columns_and_shows_the_options(
    task: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(command, [*task.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for wanted in {"": ["plot", "export", "run", "RECIPE"], "plot": ["--output", "curves.png"]}.get(task, ["-"]):
        assert wanted in out
    assert ("--data DIR" in out) == (task in ("", "run", "tiny"))


def test_plot_writes_the_figure_and_prints_its_path(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figure.svg"
    assert run(command, ["plot", str(make("a/run")), str(make("b/run")), "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert printed.err == ""
    assert out.stat().st_size > 1000


def test_plot_is_curves_png_by_default_and_says_when_only_the_loss_is_drawn(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder = make("run", validated=False)
    monkeypatch.chdir(tmp_path)
    assert run(command, ["plot", str(run_folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "curves.png\n"
    assert "only the loss" in printed.err
    assert Path("curves.png").exists()


@pytest.mark.parametrize(("task", "name"), [("plot", "curves.png"), ("export", f"{STEM}.md")])
def test_files_are_replaced_only_when_that_is_allowed(
    task: str, name: str, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("earlier")
    args = [task, str(make("run", "best.safetensors")), "-o", str(out / name if task == "plot" else out)]
    assert run(command, args) == ExitCode.USAGE
    assert f"{name} already exists" in capsys.readouterr().err
    assert [path.read_text() for path in out.iterdir()] == ["earlier"]
    assert run(command, [*args, "--overwrite"]) == 0
    assert (out / name).read_bytes() != b"earlier"


def test_export_writes_the_best_weights_their_artefact_and_a_card(
    make: Make, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "release"
    run_folder = make("run", "best.safetensors")
    (run_folder / "weights.safetensors").write_bytes(b"not these")
    assert run(command, ["export", str(run_folder), "-o", str(out)]) == 0
    printed = capsys.readouterr()
    files = [out / f"{STEM}{suffix}" for suffix in (".safetensors", ".onnx", ".md")]
    assert printed.out.splitlines() == list(map(str, files))
    assert sorted(out.iterdir()) == sorted(files)
    assert re.search(r"best\.safetensors, step 1,000", printed.err)
    assert printed.err.count("fused ") == 3  # its blocks, its up-sampler and the copies of its input
    assert len(re.findall(r"verified .*: max difference \d", printed.err)) == 3

    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert digest == load_checkpoint(run_folder / "best.safetensors").sha256
    assert load_checkpoint(files[0]).spec.block is Block.RBSB, "the training form"
    assert load(files[1]).session.metadata.weights_sha256 == digest, "the artefact is of these weights"
    text = files[2].read_text(encoding="utf-8")
    assert digest in text
    assert "| Set5 | 36.500 / 0.9500 | 33.660 / 0.9300 |" in text
    count = sum(value.numel() for value in load_checkpoint(weights).state.values())
    assert f"{count:,} in training form" in text


def test_of_a_run_without_validation_the_newest_weights_are_taken(make: Make) -> None:
    picked = pick_weights(make("run", "weights.safetensors", validated=False))
    assert (picked.path.name, picked.step, picked.best_on) == ("weights.safetensors", 2000, None)


def test_the_step_of_weights_is_what_they_say_and_not_guessed(make: Make, weights: Path) -> None:
    run_folder = make("run", "weights.safetensors")
    shutil.copy(weights, run_folder / "weights.safetensors")  # without its step
    assert "step unknown" in str(pick_weights(run_folder))
    best = make("other", "best.safetensors", validated=False)
    assert "step 1,000, the best on the first validation set" in str(pick_weights(best))


def test_a_folder_in_the_way_leaves_all_as_it_was(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / f"{STEM}.safetensors").mkdir(parents=True)
    assert run(command, ["export", str(make("run", "weights.safetensors")), "-o", str(out)]) == 2
    assert [path.name for path in out.iterdir()] == [f"{STEM}.safetensors"]


def test_a_failed_verification_leaves_none_of_the_files_and_keeps_earlier_ones(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any) -> None:
        msg = "the numbers differ"
        raise VerificationError(msg)

    monkeypatch.setattr(job, "verify", refuse)
    out = tmp_path / "out"
    out.mkdir()
    (out / f"{STEM}.onnx").write_bytes(b"earlier")
    assert run(command, ["export", str(make("run", "best.safetensors")), "-o", str(out), "--overwrite"]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "the numbers differ" in printed.err
    assert [path.read_bytes() for path in out.iterdir()] == [b"earlier"]


def test_what_is_no_run_or_has_no_weights_is_refused_with_the_reason(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    young, damaged, whole = make("young"), make("damaged"), make("whole", "best.safetensors")
    (damaged / "best.safetensors").write_bytes(b"noise")
    (tmp_path / "file").touch()
    strange = make("strange", "best.safetensors")
    (strange / "log.jsonl").write_text("[1]\n")
    for args, message in (
        (["export", tmp_path / "gone"], "gone/log.jsonl cannot be read"),
        (["export", tmp_path / "empty"], "give the folder of a training run"),
        (["plot", tmp_path / "empty"], "give the folder of a training run"),
        (["export", strange], "is not the log of a training run"),
        (["export", young], "holds no weights yet"),
        (["export", damaged], "best.safetensors: not a safetensors file"),
        (["export", whole, "-o", tmp_path / "file"], "file cannot be made"),
        (["export", whole, "-o", tmp_path / "file" / "below"], "below cannot be made"),
        (["plot", whole, "-o", tmp_path / "nowhere" / "curves.png"], "curves.png cannot be written"),
    ):
        out = [] if args[0] == "plot" or "-o" in args else ["-o", tmp_path / "out"]
        assert run(command, list(map(str, [*args, *out]))) == ExitCode.INPUT_FAILED, message
        printed = capsys.readouterr()
        assert message in printed.err
        assert "Traceback" not in printed.err
        assert printed.out == ""
    assert not (tmp_path / "out").exists()

"""The figure of convergence curves, by what is in it."""

import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_models.training.curves import draw_curves, labels, shared_sets, write_curves

LONG = 400


def log(
    sets: Mapping[str, float] | None = None, *, level: float = 0.03, steep: float = 0.0, bicubic: float = 28.0
) -> list[dict[str, Any]]:
    """A run of 400 lines with a noisy loss; ``sets``: names, and the PSNR reached in the end."""
    sets = sets or {}
    noise = np.random.default_rng(0).normal(0, 0.05 * level, LONG)
    lines: list[dict[str, Any]] = [
        {
            "step": 0,
            "recipe": {"optimisation": {"loss": "l1"}},
            "bicubic": {name: {"psnr_y": bicubic, "ssim_y": 0.8} for name in sets},
        }
    ]
    for number in range(LONG):
        step = 50 * (number + 1)
        lines.append({"step": step, "loss": level + noise[number] + steep * math.exp(-number / 3), "lr": 0.005})
        if sets and step % 2000 == 0:
            reached = {name: {"psnr_y": psnr - 20 * (step == 2000), "ssim_y": 0.8} for name, psnr in sets.items()}
            lines.append({"step": step, "validation": reached})
    return lines


def panels(figure: Figure) -> dict[str, Axes]:
    """The parts of the figure by what is measured on their vertical axes."""
    return {axes.get_ylabel().split("\n")[0]: axes for axes in figure.axes}


def curve(axes: Axes, run: int = 0) -> np.ndarray:
    """Steps and values of the strong line of a run."""
    lines = [line for line in axes.lines if line.get_linestyle() != "--" and line.get_alpha() is None]
    return np.array(lines[run].get_data())


def dashed(axes: Axes) -> list[float]:
    return [float(line.get_ydata()[0]) for line in axes.lines if line.get_linestyle() == "--"]


def test_the_loss_is_a_smooth_line_through_the_noise() -> None:
    (axes,) = draw_curves({"a": log()}).axes
    assert axes.get_ylabel() == "training loss (L1)"
    steps, values = curve(axes)
    assert list(steps) == [50 * (number + 1) for number in range(LONG)]
    raw = [entry["loss"] for entry in log()[1:]]
    assert np.std(values[100:]) < np.std(raw[100:]) / 3
    assert np.mean(values) == pytest.approx(np.mean(raw), rel=0.02)


def test_the_steep_start_is_not_smeared_and_is_told_apart_from_the_rest() -> None:
    (axes,) = draw_curves({"a": log(steep=0.5)}).axes
    raw = [entry["loss"] for entry in log(steep=0.5)[1:]]
    assert curve(axes)[1][:40] == pytest.approx(raw[:40], rel=0.15)
    assert axes.get_yscale() == "log"
    assert draw_curves({"a": log()}).axes[0].get_yscale() == "linear"


def test_shared_validation_sets_are_drawn_with_bicubic_and_others_are_not() -> None:
    logs = {"a": log({"Set5": 31.0, "own": 30.0, "Set14": 29.0}), "b": log({"Set14": 28.5, "Set5": 30.5})}
    assert shared_sets(logs) == ["Set5", "Set14"]
    found = panels(draw_curves(logs))
    assert set(found) == {"training loss (L1)", "PSNR on Set5", "PSNR on Set14"}
    axes = found["PSNR on Set5"]
    assert [curve(axes, run)[1][-1] for run in range(2)] == [31.0, 30.5]
    assert dashed(axes) == [28.0]
    assert any("28.00" in text.get_text() for text in axes.texts)


def test_bicubic_of_another_scale_is_another_line() -> None:
    logs = {"x4": log({"Set5": 31.0}), "x2": log({"Set5": 37.0}, bicubic=33.7)}
    assert dashed(panels(draw_curves(logs))["PSNR on Set5"]) == [28.0, 33.7]


def test_first_steps_far_below_bicubic_do_not_press_the_rest_flat() -> None:
    axes = panels(draw_curves({"a": log({"Set5": 31.0})}))["PSNR on Set5"]
    assert curve(axes)[1].min() < 12
    assert 26 < axes.get_ylim()[0] < 28
    worse = panels(draw_curves({"a": log({"Set5": 31.0}), "b": log({"Set5": 20.0})}))["PSNR on Set5"]
    assert worse.get_ylim()[0] < 20, "a run that never reaches bicubic is seen"


def test_a_run_that_was_not_validated_takes_no_panel_from_the_others() -> None:
    assert set(panels(draw_curves({"a": log({"Set5": 31.0}), "b": log()}))) == {"training loss (L1)", "PSNR on Set5"}
    assert shared_sets({"a": log({"Set5": 31.0}), "b": log({"Set14": 28.0})}) == []


def test_every_run_is_in_the_legend_by_its_name_and_has_a_look_of_its_own() -> None:
    names = ["_hidden", "a$b$c", *map(str, range(10))]
    figure = draw_curves({name: log({"Set5": 31.0}) for name in names})
    (legend,) = figure.legends
    assert [text.get_text().strip().replace("\\$", "$") for text in legend.get_texts()] == names
    looks = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(looks) == len(names)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"curves{suffix}"
    write_curves(path, {"a$_{": log({"Se$t5": 31.0})})
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf"):
        write_curves(tmp_path / "curves.doc", {"a": log()})
    with pytest.raises(InputError, match="young has logged no loss yet"):
        write_curves(tmp_path / "curves.png", {"a": log(), "young": [{"step": 0}]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strange", [None, 3, "x", math.nan, math.inf, [], {}, {"Set5": 3}, {"Set5": {"psnr_y": "x"}}])
def test_strange_values_in_a_log_are_left_out(strange: Any) -> None:
    odd = [*log(), {"step": 9, **dict.fromkeys(("validation", "bicubic", "recipe"), strange)}]
    if not isinstance(strange, int):
        odd.append({"step": 10, "loss": strange})
    assert set(panels(draw_curves({"a": odd}))) == {"training loss (L1)"}


def test_runs_are_called_as_their_folders_with_as_many_parents_as_tell_them_apart(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("here/run", "there/run", "other", "here/../other")]
    for run in runs[:3]:
        run.mkdir(parents=True)
    assert labels(runs) == {"here/run": runs[0], "there/run": runs[1], "other": runs[3]}


def test_no_window_system_is_asked_for() -> None:
    code = "import sys, lkdn_models.training.curves; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

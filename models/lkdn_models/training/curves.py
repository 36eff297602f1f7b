"""Convergence curves: a figure of the logs of training runs. Only this module imports Matplotlib."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs

with needs("train"):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure  # pyplot would choose a window system, and keep every figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

Log = Sequence[Mapping[str, Any]]
"""The entries of a run's log, as ``RunFolder.read_log`` returns them."""

SUFFIXES = (".png", ".svg", ".pdf")
MOST_SETS = 2
"""Largest number of validation sets to draw: more would be too small to read."""

# Okabe and Ito's palette for the colour-blind, without its yellow, which is too light for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "-.", ":")  # for more runs than colours; dashes are bicubic's
_GREY = "0.35"
_LOGARITHMIC_FROM = 3.0
"""Ratio of the largest to the smallest loss below which a logarithmic axis would have too few round numbers."""


def labels(runs: Sequence[Path]) -> dict[str, Path]:
    """Return a short name for each run folder, in order: its own, with the parents needed to distinguish it.

    A folder that is given twice appears once.
    """
    folders = {run.resolve(): run for run in runs}  # resolved, so that "." has a name
    names = {}
    for folder, run in folders.items():
        others = [other.parts for other in folders if other != folder]
        depth = 1
        while depth < len(folder.parts) and any(other[-depth:] == folder.parts[-depth:] for other in others):
            depth += 1
        names["/".join(folder.parts[-depth:])] = run
    return names


def shared_sets(logs: Mapping[str, Log]) -> list[str]:
    """Return the names of the validation sets that all validated runs share, in the first run's order."""
    tables = [dict.fromkeys(name for _, table in _validations(log) for name in table) for log in logs.values()]
    validated = [table for table in tables if table]
    return [name for name in validated[0] if all(name in table for table in validated)] if validated else []


def draw_curves(logs: Mapping[str, Log]) -> Figure:
    """Draw training loss and PSNR on the shared validation sets over the iterations, one colour for each run.

    The loss is a running mean of the logged values, which are drawn faintly. The first ``MOST_SETS`` shared validation
    sets are drawn, with bicubic as a dashed line; if there are none, only the loss. The runs' names are in the legend.

    Raises:
        InputError: if a run has logged no loss.
    """
    sets = shared_sets(logs)[:MOST_SETS]
    figure = Figure(figsize=(10.0 if sets else 6.4, 4.4 if len(sets) < 2 else 5.2), layout="constrained")
    grid = figure.add_gridspec(max(1, len(sets)), 2 if sets else 1)
    looks = {
        name: {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _STYLES[i // len(_COLOURS) % len(_STYLES)]}
        for i, name in enumerate(logs)
    }
    loss = figure.add_subplot(grid[:, 0])
    _draw_loss(loss, logs, looks)
    for row, name in enumerate(sets):
        _draw_psnr(figure.add_subplot(grid[row, 1], sharex=loss), name, logs, looks)
    for axes in figure.axes:
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        if axes.get_subplotspec().is_last_row():  # type: ignore[union-attr]
            axes.set_xlabel("iterations")
        else:
            axes.tick_params(labelbottom=False)
    widest = max(map(len, logs))
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=max(1, 90 // (widest + 8)))
    return figure


def write_curves(path: str | os.PathLike[str], logs: Mapping[str, Log]) -> None:
    """Write the figure of ``draw_curves`` in the format that the suffix of ``path`` names.

    Raises:
        UsageError: if the suffix is not one of ``SUFFIXES``.
        InputError: if a run has logged no loss, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        msg = f"the suffix of {path} names no format that can be written"
        raise UsageError(msg, f"use one of {', '.join(SUFFIXES)}")
    figure = draw_curves(logs)
    with publish(path) as part:
        figure.savefig(part, dpi=150)


def _draw_loss(axes: Axes, logs: Mapping[str, Log], looks: Mapping[str, dict[str, Any]]) -> None:
    values = []
    for name, log in logs.items():
        steps, losses = _series((entry["step"], entry.get("loss")) for entry in log)
        if not len(steps):
            msg = f"{name} has logged no loss yet"
            raise InputError(msg, "wait for the first one: log_every in the recipe sets the iterations between them")
        smooth = _running_mean(losses)
        # Below the running means of all runs.
        axes.plot(steps, losses, color=looks[name]["color"], linewidth=0.8, alpha=0.3, zorder=1.5)
        axes.plot(
            steps, smooth, **looks[name], linewidth=1.6, label=_text(name), marker="." if len(steps) == 1 else None
        )
        values += [losses.min(), losses.max()]
    kinds = {_loss_kind(log) for log in logs.values()}
    kind = kinds.pop() if len(kinds) == 1 else None
    axes.set_ylabel(f"training loss ({kind.upper()})" if kind else "training loss")
    if 0 < min(values) * _LOGARITHMIC_FROM < max(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_psnr(axes: Axes, set_name: str, logs: Mapping[str, Log], looks: Mapping[str, dict[str, Any]]) -> None:
    plain: dict[float, list[str]] = {}  # bicubic's PSNR, which depends on the scale, and the runs that have it
    lowest, best = [], []
    for name, log in logs.items():
        steps, values = _series((step, table[set_name]) for step, table in _validations(log) if set_name in table)
        if not len(steps):
            continue
        axes.plot(steps, values, **looks[name], linewidth=1.6, marker="o" if len(steps) <= 40 else None, markersize=3)
        lowest.append(values.min())
        best.append(values.max())
        for figure in (_psnr(entry.get("bicubic"), set_name) for entry in log):
            if figure is not None and name not in plain.setdefault(figure, []):
                plain[figure].append(name)
    for value, runs in plain.items():
        colour = looks[runs[0]]["color"] if len(runs) == 1 < len(lowest) else _GREY
        axes.axhline(value, color=colour, linestyle="--", linewidth=1.2)
        # At the right, where the runs are far above bicubic.
        text = f"bicubic {value:.2f}"
        place = ((1, value), (0, 3), axes.get_yaxis_transform(), "offset points")
        axes.annotate(text, *place, ha="right", fontsize="small", color=colour)
    if plain and lowest:
        # The first steps, far below bicubic, would flatten the rest of the curve.
        bottom = min(min(plain) - 1, min(best) - 0.5)
        if min(lowest) < bottom:
            axes.set_ylim(bottom=bottom)
    axes.set_ylabel(f"PSNR on {_text(set_name)}\n(dB, luma)")


def _text(name: str) -> str:
    """Return a name so that Matplotlib neither reads a formula in it nor hides it for a leading underscore."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def _loss_kind(log: Log) -> str | None:
    for entry in log:
        match entry:
            case {"recipe": {"optimisation": {"loss": str(kind)}}}:
                return kind
    return None


def _validations(log: Log) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield each step at which the run was validated, with the PSNR on every set."""
    for entry in log:
        if isinstance(table := entry.get("validation"), Mapping):
            yield entry["step"], {name: value for name in table if (value := _psnr(table, name)) is not None}


def _psnr(table: Any, set_name: str) -> float | None:
    """Return the PSNR on one set from a table of qualities, if it is there."""
    row = table.get(set_name) if isinstance(table, Mapping) else None
    value = row.get("psnr_y") if isinstance(row, Mapping) else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _series(points: Iterator[tuple[int, Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = [(step, value) for step, value in points if isinstance(value, (int, float)) and math.isfinite(value)]
    steps, values = np.array(kept, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of about a twentieth of the values around each; of fewer at the ends and near the steep start."""
    count = len(values)
    at = np.arange(count)
    reach = np.minimum(max(count // 40, min(3, count // 8)), at // 4)
    end = np.minimum(at + reach + 1, count)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: NDArray[np.float64] = (sums[end] - sums[at - reach]) / (end - at + reach)
    return means

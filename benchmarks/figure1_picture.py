"""The plot of the results of ``figure1.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from labels import label_offsets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish

Row = dict[str, Any]
"""The recorded results of one set of weights."""

SETS = ("Set5", "Set14", "Urban100")
SCALE = 4
LABELS = {
    "lapsrn": "LapSRN",
    "compact": "Compact",
    "reprlfn": "RepRLFN",
    "rfdn-aim": "RFDN (AIM)",
    "rlfn-ntire": "RLFN (NTIRE)",
    "r2net": "R2Net",
    "safmn-v3": "SAFMN v3",
    "smfanet": "SMFANet",
    "span-ch28": "SPAN (28)",
    "span-ch48": "SPAN (48)",
    "vapsr": "VapSR",
    "vapsr-s": "VapSR-S",
}
"""Labels of networks whose names are not written in capitals."""
LABEL_SIZE = 9
EMPHASISED = ("lkdn", "lkdn-s")
# Of Okabe and Ito's palette, which the colour-blind tell apart too.
ORANGE, BLUE, GREY, PALE = "#D55E00", "#0072B2", "0.55", "0.8"
AXES = {
    "multi_adds_g": (1, "Multi-Adds for a 1280x720 output (G)", (5, 10, 20, 50, 100, 200, 500, 1000)),
    "parameters": (1e3, "parameters (K)", (50, 100, 150, 200, 300, 400, 500, 700, 1000, 1500)),
}
"""Rows of panels: unit, axis label and ticks."""
AREA = 0.4
"""Area of a marker in points**2 per thousand parameters."""
NOTE = (
    "PSNR on luma, measured on ONNX Runtime. Multi-Adds are the multiply-accumulates of convolutions and linear layers."
    "\nNetworks of luma are given luma that was not rounded, as in their papers."
)


@dataclass(frozen=True, slots=True)
class Look:
    """The style of a network's marker and label."""

    label: str
    colour: str
    weight: str = "normal"
    layer: int = 2


def look(row: Row) -> Look:
    """Return the style of a row: the paper's and the bundled networks stand out, luma networks stand back."""
    label = LABELS.get(row["name"], row["name"].upper())
    if row["origin"] == "bundled":
        return Look(f"{label}, bundled", BLUE, "bold", 4)
    if row["name"] in EMPHASISED:
        return Look(label, ORANGE, "bold", 3)
    return Look(label, PALE if row["luma_only"] else GREY)


def draw(rows: list[Row]) -> Figure:
    """Draw a column for each test set that all have, and a row for each of ``AXES``; marker areas show parameters.

    Raises:
        InputError: if there is nothing to draw at this scale.
    """
    drawn = [row for row in rows if row["scale"] == SCALE and row["origin"] != "other"]
    if not drawn:
        msg = f"there are no recorded results at x{SCALE}"
        raise InputError(msg, "record published or bundled weights first")
    sets = [name for name in SETS if all(name in row["onnx"] for row in drawn)]
    # At 72 dots an inch, points are pixels: labels are placed in these.
    figure = Figure(figsize=(5.0 * len(sets), 8.6), dpi=72, layout="constrained")
    grid = figure.subplots(len(AXES), len(sets), squeeze=False)
    for panels, (field, (unit, title, ticks)) in zip(grid, AXES.items(), strict=True):
        for axes, set_name in zip(panels, sets, strict=True):
            prepare(axes, ticks)
            axes.set_xlabel(title)
            axes.set_ylabel(f"PSNR on {set_name} x{SCALE} (dB)")
            for row in drawn:
                plot(axes, row, (row[field] / unit, row["onnx"][set_name]["psnr"]))
    figure.legend(handles=legend(drawn), loc="outside upper center", ncols=4, frameon=False)
    figure.supxlabel(NOTE, fontsize="small", color="0.35")
    figure.draw_without_rendering()  # computes the layout: labels need the positions of their markers
    figure.set_layout_engine("none")
    for panels, (field, (unit, *_)) in zip(grid, AXES.items(), strict=True):
        for axes, set_name in zip(panels, sets, strict=True):
            write_labels(axes, [(row, (row[field] / unit, row["onnx"][set_name]["psnr"])) for row in drawn])
    return figure


def prepare(axes: Axes, ticks: tuple[int, ...]) -> None:
    """Prepare an empty panel with a logarithmic x axis."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.margins(0.15, 0.1)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plot(axes: Axes, row: Row, at: tuple[float, float]) -> None:
    """Draw one marker."""
    style = look(row)
    axes.scatter(*at, AREA * row["parameters"] / 1e3, style.colour, alpha=0.85, edgecolors="white", zorder=style.layer)


def radius(row: Row) -> float:
    """Return the radius of a marker in points."""
    return float(np.sqrt(AREA * row["parameters"] / 1e3 / np.pi))


def legend(drawn: list[Row]) -> list[Line2D]:
    """Return legend entries for colours and areas."""
    styles = {look(row).colour for row in drawn}
    colours = {
        ORANGE: "the LKDN paper's, its authors' weights",
        BLUE: "bundled, trained by this project",
        GREY: "others, published weights",
        PALE: "others, of luma only",
    }
    marks = [(colour, 8.0, text) for colour, text in colours.items() if colour in styles]
    marks += [("0.9", 2 * radius({"parameters": 1e3 * size}), f"{size} K parameters") for size in (100, 300, 600)]
    return [
        Line2D([], [], linestyle="", marker="o", color=colour, markersize=size, markeredgecolor="0.6", label=text)
        for colour, size, text in marks
    ]


def write_labels(axes: Axes, points: list[tuple[Row, tuple[float, float]]]) -> None:
    """Write each name beside its marker, or further away with a line to it where it is crowded."""
    styles = [look(row) for row, _ in points]
    radii = np.array([radius(row) for row, _ in points])
    centres = axes.transData.transform([at for _, at in points])
    frame = axes.get_window_extent().padded(-3).extents
    offsets = label_offsets(centres, radii, np.array([extent(style) for style in styles]), frame)
    for (_, at), style, reach, offset, far in zip(points, styles, radii, *offsets, strict=True):
        axes.annotate(
            style.label,
            at,
            tuple(offset),
            textcoords="offset points",
            ha="center",
            va="center",
            color=style.colour if style.weight == "bold" else "0.25",
            fontsize=LABEL_SIZE,
            fontweight=style.weight,
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.7, "shrinkB": reach} if far else None,
        )


def extent(style: Look) -> np.ndarray:
    """Return width and height of a label in points, with a small margin."""
    path = TextPath((0, 0), style.label, LABEL_SIZE, prop=FontProperties(weight=style.weight))
    return np.array([path.get_extents().width + 4, 1.2 * LABEL_SIZE])


def write_picture(path: Path, rows: list[Row]) -> None:
    """Write the plot as SVG; the same rows give the same bytes, and its texts can be searched and read aloud."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), publish(path) as part:
        draw(rows).savefig(part, metadata={"Date": None})

"""PSNR against Multi-Adds and parameters, as the first figure of every paper on efficient super-resolution has it.

    python benchmarks/figure1.py --weights DIR --testsets DIR [--only NAME ...] [--again] [--output FILE.json]
    python benchmarks/figure1.py --draw [--output FILE.json]

Every checkpoint under ``--weights`` that is of a network of the zoo, and the bundled ones, are measured on Set5 and
Set14 in PyTorch, and on ONNX Runtime as ``export_onnx`` writes them. Formats that need it are converted first; one set
of weights for every scale is measured at each. Each result is written as soon as it is there, and what is recorded is
not measured again, so that a recording may be made in parts. Nothing is timed.

The picture beside the JSON is drawn from that alone. In the end all that is recorded is printed beside what the zoo
says of the same weights; where two of these figures differ by more than ``TOLERANCE``, the exit status is 1.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from labels import label_offsets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from upscale import machine

from lkdn_deploy import load
from lkdn_deploy.bench.complexity import count
from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import publish
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_models.checkpoint import CONVERTERS, Checkpoint, load_checkpoint
from lkdn_models.evaluate import (
    Run,
    Upscale,
    ValidationSet,
    floats,
    in_torch,
    mean,
    measure,
    measure_luma,
    open_set,
)
from lkdn_models.rgb import as_rgb
from lkdn_models.zoo import ENTRIES, Entry, names

ROOT = Path(__file__).parents[1]
SETS = ("Set5", "Set14")
SUFFIXES = (".pth", ".pt", ".safetensors", *CONVERTERS)
TOLERANCE = (0.01, 0.0005)
"""Of PSNR in dB and of SSIM."""

Row = dict[str, Any]
"""What is recorded of one set of weights."""


# Measuring


@dataclass(frozen=True, slots=True)
class Source:
    """Weights to measure."""

    checkpoint: Checkpoint
    entry: Entry
    file: Path
    sha256: str
    """Of ``file``, before any conversion."""

    @property
    def key(self) -> tuple[str, int, str]:
        """That of the row to come."""
        return self.entry.name, self.entry.scale, self.sha256

    @property
    def origin(self) -> str:
        """``bundled``, ``published`` if they are the very file that the zoo names, or ``other``."""
        if self.file == self.entry.bundled:
            return "bundled"
        return "published" if self.entry.weights and self.entry.weights.sha256 == self.sha256 else "other"


def sources(folder: Path, work: Path) -> Iterator[Source]:
    """The bundled checkpoints, then those under ``folder``; a line on stderr for each file that is left out."""
    found = set()
    bundled = [entry.bundled for entry in ENTRIES if entry.bundled]
    below = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in (*bundled, *below):
        try:
            checkpoints = read(path, work)
        except LkdnError as error:
            tell(f"left out: {error}")
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for checkpoint in checkpoints:
            identity = checkpoint.name, checkpoint.scale, digest
            entry = next((entry for entry in ENTRIES if (entry.name, entry.scale) == identity[:2]), None)
            if entry is None:
                tell(f"left out: {path}: the zoo has no {checkpoint.name} x{checkpoint.scale}")
            elif identity not in found:  # a copy is measured once
                found.add(identity)
                yield Source(checkpoint, entry, path, digest)


def read(path: Path, work: Path) -> list[Checkpoint]:
    """A file's checkpoint, or one for each scale that its weights serve; what was converted for it is in ``work``.

    Raises:
        InputError: as ``load_checkpoint`` does, or if the file cannot be converted.
    """
    if converter := CONVERTERS.get(path.suffix.lower()):
        converted = work / f"{path.name}.safetensors"
        # The converters are scripts, not modules: they are run as their users run them.
        command = [sys.executable, ROOT / converter, path, converted]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise InputError(done.stderr.strip() or f"{path}: {converter} failed")
        path = converted
    checkpoint = load_checkpoint(path)
    if not (isinstance(checkpoint.network, Entry) and checkpoint.network.network.shared_weights):
        return [checkpoint]
    scales = [entry.scale for entry in ENTRIES if entry.network is checkpoint.network.network]
    return [load_checkpoint(path, scale) for scale in scales]


def measured(source: Source, testsets: Path, work: Path) -> Row:
    """The row of one set of weights.

    Raises:
        LkdnError: if a test set cannot be read, or the exported network's numbers are not the checkpoint's.
    """
    checkpoint, entry = source.checkpoint, source.entry
    luma_only = entry.input.luma_only
    with torch.device("meta"):
        deployed = entry.build(deployed=True)
    cost = count(deployed, (1, 1 if luma_only else 3, *entry.input_size))
    network = as_rgb(checkpoint.build(), checkpoint.input, checkpoint.scale).eval()
    # On the CPU everywhere: what is recorded should not hang on what else a machine has.
    artefact = export_onnx(checkpoint, work / "network.onnx", ExportSettings()).path
    upscaler = load(artefact, backend="ort-cpu")
    pictures = [pictures_of(testsets / name, checkpoint.scale) for name in SETS]
    return {
        "name": entry.name,
        "scale": entry.scale,
        "origin": source.origin,
        "file": source.file.name,
        "sha256": source.sha256,
        "luma_only": luma_only,
        "parameters": cost.parameters,
        "multi_adds_g": round(cost.multi_adds(Rule.C) / 1e9, 4),
        "torch": qualities(in_torch(network), floats(network), luma_only, pictures),
        "onnx": qualities(upscaler, upscaler.session.run, luma_only, pictures),
    }


@cache
def pictures_of(folder: Path, scale: int) -> ValidationSet:
    """A test set, read once."""
    return open_set(folder, scale)


def qualities(upscale: Upscale, run: Run, luma_only: bool, pictures: list[ValidationSet]) -> dict[str, Any]:
    """The mean PSNR and SSIM by test set, as the papers of networks of this kind measure them."""
    means = {each.name: mean(measure_luma(run, each) if luma_only else measure(upscale, each)) for each in pictures}
    return {name: {"psnr": round(value.psnr_y, 5), "ssim": round(value.ssim_y, 6)} for name, value in means.items()}


def record(options: argparse.Namespace) -> bool:
    """Measure what is not recorded yet, or with ``--again`` all; whether it went well with every checkpoint."""
    facts = machine()
    failed = False
    with TemporaryDirectory() as name:
        work = Path(name)
        for source in sources(options.weights, work):
            title = f"{source.entry.name} x{source.entry.scale} ({source.origin}, {source.file.name})"
            if options.only and source.entry.name not in options.only:
                continue
            rows = recorded(options.output)
            if not options.again and any(key(row) == source.key for row in rows):
                tell(f"{title}: recorded already")
                continue
            tell(title)
            try:
                # The machine's facts are those of the last part, the versions each row's own.
                row = measured(source, options.testsets, work) | {"versions": facts["versions"]}
            except LkdnError as error:
                tell(f"{title}: {error}")
                failed = True
                continue
            rows = [row, *(other for other in rows if not replaces(row, other))]
            write_json(options.output, {"machine": facts, "rows": sorted(rows, key=order)})
            tell(f"  {row['onnx']}")
    return not failed


def recorded(path: Path) -> list[Row]:
    """The rows of a recording; none if there is no such file yet."""
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def key(row: Row) -> tuple[str, int, str]:
    """What tells rows apart."""
    return row["name"], row["scale"], row["sha256"]


def replaces(new: Row, old: Row) -> bool:
    """Whether they are of the same weights, or of bundled or published ones that have since become others."""
    same_place = all(new[field] == old[field] for field in ("name", "scale", "origin"))
    return key(new) == key(old) or (same_place and new["origin"] != "other")


def order(row: Row) -> tuple[int, int, str, str]:
    """That of the zoo."""
    return names().index(row["name"]), row["scale"], row["origin"], row["sha256"]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n")


def tell(line: str) -> None:
    """Say how far it is."""
    print(line, file=sys.stderr, flush=True)


# Comparing


def compare(rows: Iterable[Row]) -> bool:
    """Print a line for each row and set; whether all figures that must be equal are."""
    line = "{:<10} {:>5}  {:<10} {:<6} {:>14} {:>14} {:>14}  {}"
    print(line.format("network", "scale", "weights", "set", "PyTorch", "ONNX Runtime", "zoo", ""))
    equal = True
    for row in rows:
        for name in SETS:
            here = [(row[engine][name]["psnr"], row[engine][name]["ssim"]) for engine in ("torch", "onnx")]
            zoo, comparable = written(row, name)
            compared = [*here, zoo] if zoo and comparable else here
            good = all(near(one, other) for one in compared for other in compared)
            equal &= good
            verdict = ("" if comparable else "n/a") if good else "differs"
            figures = ["{:.3f}/{:.4f}".format(*value) if value else "-" for value in (*here, zoo)]
            print(line.format(row["name"], f"x{row['scale']}", row["origin"], name, *figures, verdict).rstrip())
    return equal


def written(row: Row, set_name: str) -> tuple[tuple[float, float] | None, bool]:
    """What the zoo says of these very weights, if anything, and whether it was measured in the same way.

    Set14 has a grey picture, of which the scripts of networks of luma take another luma (see ``measure_luma``).
    """
    if row["origin"] != "published":
        return None, True
    entry = next(entry for entry in ENTRIES if (entry.name, entry.scale) == (row["name"], row["scale"]))
    return entry.measured.get(set_name), not (row["luma_only"] and set_name == "Set14")


def near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two pairs of PSNR and SSIM are equal but for ``TOLERANCE``."""
    return all(abs(a - b) <= most for a, b, most in zip(one, other, TOLERANCE, strict=True))


# Drawing

SCALE = 4
LABELS = {
    "lapsrn": "LapSRN",
    "rfdn-aim": "RFDN (AIM)",
    "rlfn-ntire": "RLFN (NTIRE)",
    "vapsr": "VapSR",
    "vapsr-s": "VapSR-S",
}
"""Names that are not written in capitals."""
LABEL_SIZE = 9
EMPHASISED = ("lkdn", "lkdn-s")
# Of Okabe and Ito's palette, which the colour-blind tell apart too.
ORANGE, BLUE, GREY, PALE = "#D55E00", "#0072B2", "0.55", "0.8"
AXES = {
    "multi_adds_g": (1, "Multi-Adds for a 1280x720 output (G)", (5, 10, 20, 50, 100, 200, 500, 1000)),
    "parameters": (1e3, "parameters (K)", (50, 100, 150, 200, 300, 400, 500, 700, 1000, 1500)),
}
"""A row of panels each: the unit, the axis label, its ticks."""
AREA = 0.4
"""Points**2 of a marker for each thousand parameters."""
NOTE = (
    "PSNR on luma, measured on ONNX Runtime. Multi-Adds are the multiply-accumulates of convolutions and linear layers."
    "\nNetworks of luma are given luma that was not rounded, as in their papers."
)


@dataclass(frozen=True, slots=True)
class Look:
    """How a network is drawn."""

    label: str
    colour: str
    weight: str = "normal"
    layer: int = 2


def look(row: Row) -> Look:
    """The paper's networks and the bundled one stand out; those of luma stand back."""
    label = LABELS.get(row["name"], row["name"].upper())
    if row["origin"] == "bundled":
        return Look(f"{label}, bundled", BLUE, "bold", 4)
    if row["name"] in EMPHASISED:
        return Look(label, ORANGE, "bold", 3)
    return Look(label, PALE if row["luma_only"] else GREY)


def draw(rows: list[Row]) -> Figure:
    """A column for each test set, a row for each of ``AXES``; marker areas go by parameters everywhere.

    Raises:
        InputError: if there is nothing to draw at this scale.
    """
    drawn = [row for row in rows if row["scale"] == SCALE and row["origin"] != "other"]
    if not drawn:
        msg = f"nothing is recorded at x{SCALE}"
        raise InputError(msg, "record published or bundled weights first")
    # At 72 dots an inch, points are pixels: labels are placed in these.
    figure = Figure(figsize=(10.0, 8.6), dpi=72, layout="constrained")
    grid = figure.subplots(len(AXES), len(SETS), squeeze=False)
    for panels, (field, (unit, title, ticks)) in zip(grid, AXES.items(), strict=True):
        for axes, set_name in zip(panels, SETS, strict=True):
            prepare(axes, ticks)
            axes.set_xlabel(title)
            axes.set_ylabel(f"PSNR on {set_name} x{SCALE} (dB)")
            for row in drawn:
                plot(axes, row, (row[field] / unit, row["onnx"][set_name]["psnr"]))
    figure.legend(handles=legend(drawn), loc="outside upper center", ncols=4, frameon=False)
    figure.supxlabel(NOTE, fontsize="small", color="0.35")
    figure.draw_without_rendering()  # the layout is made now: labels must know where their markers are
    figure.set_layout_engine("none")
    for panels, (field, (unit, *_)) in zip(grid, AXES.items(), strict=True):
        for axes, set_name in zip(panels, SETS, strict=True):
            write_labels(axes, [(row, (row[field] / unit, row["onnx"][set_name]["psnr"])) for row in drawn])
    return figure


def prepare(axes: Axes, ticks: tuple[int, ...]) -> None:
    """An empty panel with a logarithmic axis below."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.margins(0.15, 0.1)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def plot(axes: Axes, row: Row, at: tuple[float, float]) -> None:
    """One marker."""
    style = look(row)
    axes.scatter(*at, AREA * row["parameters"] / 1e3, style.colour, alpha=0.85, edgecolors="white", zorder=style.layer)


def radius(row: Row) -> float:
    """Of a marker, in points."""
    return float(np.sqrt(AREA * row["parameters"] / 1e3 / np.pi))


def legend(drawn: list[Row]) -> list[Line2D]:
    """What colours and areas mean."""
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
    """Each name beside its marker, or further off with a line to it where it is crowded."""
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
    """Width and height of a label in points, with a little room around it."""
    path = TextPath((0, 0), style.label, LABEL_SIZE, prop=FontProperties(weight=style.weight))
    return np.array([path.get_extents().width + 4, 1.2 * LABEL_SIZE])


def write_picture(path: Path, rows: list[Row]) -> None:
    """The same rows give the same bytes, and its words can be searched and read out."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), publish(path) as part:
        draw(rows).savefig(part, metadata={"Date": None})


def main() -> None:
    """Record, draw, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of checkpoints, at whatever depth")
    parser.add_argument("--testsets", type=Path, help="folder that holds NAME/xSCALE/HR/*.png")
    parser.add_argument("--only", nargs="+", choices=names(), metavar="NAME", help="networks to measure")
    parser.add_argument("--again", action="store_true", help="measure what is recorded, too")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "figure1.json")
    options = parser.parse_args()
    if not options.draw and not (options.weights and options.testsets):
        parser.error("give --weights and --testsets, or --draw")
    for folder in (options.weights, options.testsets):
        if folder and not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    try:
        complete = options.draw or record(options)
        rows = recorded(options.output)
        write_picture(options.output.with_suffix(".svg"), rows)
    except LkdnError as error:
        sys.exit(str(error))
    sys.exit(0 if compare(rows) and complete else 1)


if __name__ == "__main__":
    main()

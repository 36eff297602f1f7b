"""A report's pictures, as SVG without anything around it: for a page, or for a file of its own.

The same report gives the same bytes. Words are text, which can be searched and read out. What is not coloured has the
colour of the surrounding text, so it can be read on light and on dark.
"""

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from itertools import cycle
from typing import Any

import numpy as np

from lkdn_deploy.bench.report.figures import by_name, model, operations, typical
from lkdn_deploy.bench.report.labels import offsets
from lkdn_deploy.bench.report.printable import printable
from lkdn_deploy.bench.results import Protocol, Report, Row
from lkdn_deploy.core.optional import needs

with needs("bench"):
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure  # pyplot would choose a window system, and keep every figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

# Okabe and Ito's palette without black, and yellow darkened: told apart by the colour-blind, on light and on dark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C", "#A89A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FILLS = ("full", "none", "left", "top")
"""Of a marker, by precision."""
BOUNDS = (("network", "<", "whole network"), ("pointwise", "d", "pointwise fused"), ("layers", ">", "layer by layer"))
"""Of the roofline: the field, its marker, its name."""
MOST_KINDS = 8
"""Of layers that have a colour of their own."""
LONGEST = 36
"""Characters of a name beside a marker."""
SIZE = 9
"""Of words, in points."""
RADIUS = 4.0
"""Of markers, in points."""

HEIGHTS = (4.6, 6.4, 9.0)
"""Of a scatter plot, in inches."""
BESIDE = 8
"""Points that a name may be from its marker without a line to it."""

_TAG = re.compile(r"<[^>]*>")
_Point = tuple[Row, tuple[float, float]]
_INK = "#010203"
"""Stands for the colour of the surrounding text: nothing else has it."""
_STYLE = "<style>svg:root{color:#1a1a1a}@media (prefers-color-scheme:dark){svg:root{color:#e8e8e8}}</style>"
"""For a file of its own; inside a page the root is another and the page's colour holds."""


@contextmanager
def _drawing(name: str) -> Iterator[None]:
    """Words stay words, and what is made is the same each time. Scripts that no font here has are the reader's."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@_drawing("quality")
def quality_plot(report: Report) -> str | None:
    """PSNR against latency, a marker a row; where no row has PSNR, latency against operations.

    A colour a model, a marker a backend, a filling a precision. ``None`` where no row has both. The picture is as high
    as the names need; one that finds no room in the highest is left out.
    """
    report = printable(report)
    quality = any(row.psnr is not None for row in report.rows)
    points = _points(report, quality)
    if not points:
        return None
    for height in HEIGHTS:
        figure, named = _scatter(report, points, quality, height)
        if named:
            break
    return _svg(figure, "PSNR against latency" if quality else "Latency against operations")


def _points(report: Report, quality: bool) -> list[_Point]:
    """The rows that have both, and where they lie."""
    found = []
    for row in report.rows:
        latency = typical(row.latency, report.settings.protocol) if row.latency else None
        x, y = (latency, row.psnr) if quality else (row.cost.operations / 1e9 if row.cost else None, latency)
        if x is not None and y is not None:
            found.append((row, (x, y)))
    return found


def _scatter(report: Report, points: list[_Point], quality: bool, height: float) -> tuple[Figure, bool]:
    """The picture at a height in inches, and whether every name has found room."""
    protocol = report.settings.protocol
    time = f"{'mean' if protocol is Protocol.NTIRE_2023 else 'median'} latency in ms"
    # At 72 dots an inch, points are pixels: names are placed in these.
    figure = Figure(figsize=(7.2, height), dpi=72, layout="constrained")
    axes = figure.subplots()
    _prepare(axes)
    axes.set_xlabel(time if quality else f"{operations(protocol)} in G", color=_INK, fontsize=SIZE)
    axes.set_ylabel("PSNR in dB" if quality else time, color=_INK, fontsize=SIZE)
    axes.margins(0.12)
    axes.grid(color=_INK, alpha=0.15, linewidth=0.6)
    _logarithmic(axes, "x", [x for _, (x, _) in points])
    if not quality:
        _logarithmic(axes, "y", [y for _, (_, y) in points])
    colours, markers, fills = _looks(report.rows)
    for row, at in points:
        _mark(axes, at, colours[model(row)], markers[row.backend], fills[row.precision])
    keys = [(backend, marker, "full") for backend, marker in markers.items()]
    keys += [(precision, "o", fill) for precision, fill in fills.items() if len(fills) > 1]
    _legend(figure, [_key(marker, _INK, fill) for _, marker, fill in keys], [name for name, *_ in keys])
    figure.draw_without_rendering()  # the layout is made now: names must know where their markers are
    figure.set_layout_engine("none")
    return figure, _name(axes, points)


@_drawing("kinds")
def kinds_plot(report: Report) -> str | None:
    """Milliseconds in each kind of layer, a bar a row of those that have them. ``None`` where none has."""
    report = printable(report)
    rows = {name: row for name, row in by_name(report.rows).items() if row.kinds}
    if not rows:
        return None
    kinds = _dearest(rows.values())
    figure, axes = _lines(list(rows), "ms in each kind of layer, by the engine's profiler")
    for place, row in enumerate(rows.values()):
        left = 0.0
        for kind, colour in kinds.items():
            width = (
                row.kinds.get(kind, 0.0) if kind else sum(row.kinds[each] for each in row.kinds if each not in kinds)
            )
            axes.barh(place, width, 0.42, left, color=colour, edgecolor="none")
            left += width
        look: dict[str, Any] = {"color": _INK, "fontsize": SIZE, "va": "center"}
        axes.annotate(f"{left:.3g}", (left, place), (4, 0), textcoords="offset points", **look)
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    _legend(figure, [_key("s", colour) for colour in kinds.values()], [kind or "others" for kind in kinds])
    return _svg(figure, "Time in each kind of layer")


@_drawing("roofline")
def roofline_plot(report: Report) -> str | None:
    """The measured latency beside the least that the device allows, for three degrees of fusion, a line a row.

    ``None`` where no row has both.
    """
    report = printable(report)
    rows = {name: row for name, row in by_name(report.rows).items() if row.bounds and row.latency}
    if not rows:
        return None
    figure, axes = _lines(list(rows), "ms, and the least that the roofline allows")
    colours, markers, _ = _looks(report.rows)
    every: list[float] = []
    for place, row in enumerate(rows.values()):
        if row.bounds is None or row.latency is None:
            continue
        measured = typical(row.latency, report.settings.protocol)
        bounds = [float(getattr(row.bounds, field)) for field, *_ in BOUNDS]
        every += [measured, *bounds]
        axes.plot([min(*bounds, measured), max(*bounds, measured)], [place] * 2, color=_INK, alpha=0.35, linewidth=1)
        for bound, (_, marker, _) in zip(bounds, BOUNDS, strict=True):
            _mark(axes, (bound, place), _INK, marker, "none")
        _mark(axes, (measured, place), colours[model(row)], markers[row.backend], "full")
    axes.set_xscale("log")
    low, high = min(every) / 1.4, max(every) * 1.4
    _ticks(axes, "x")
    axes.set_xlim(low / max(1.0, 5 / (high / low)), high)
    handles = [_key(marker, _INK, "none") for _, marker, _ in BOUNDS]
    _legend(figure, [*handles, _key("o", _INK)], [*(name for *_, name in BOUNDS), "measured: filled"])
    return _svg(figure, "Measured latency and the roofline's bounds")


def _looks(rows: Iterable[Row]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """A colour for each model, a marker for each backend, a filling for each precision: the same in every plot."""
    rows = tuple(rows)
    models, backends = dict.fromkeys(map(model, rows)), dict.fromkeys(row.backend for row in rows)
    precisions = dict.fromkeys(row.precision for row in rows)
    return (
        dict(zip(models, cycle(COLOURS), strict=False)),
        dict(zip(backends, cycle(MARKERS), strict=False)),
        dict(zip(precisions, cycle(FILLS), strict=False)),
    )


def _dearest(rows: Iterable[Row]) -> dict[str, str]:
    """A colour for each kind of layer, those first that take the most; the empty one is all others."""
    sums: dict[str, float] = {}
    for row in rows:
        for kind, time in row.kinds.items():
            sums[kind] = sums.get(kind, 0.0) + time
    kinds = sorted(sums, key=lambda kind: (-sums[kind], kind))
    if len(kinds) > MOST_KINDS:
        kinds = [*kinds[: MOST_KINDS - 1], ""]
    return dict(zip(kinds, COLOURS, strict=False))


def _prepare(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(colors=_INK, which="both", labelsize=SIZE)


def _lines(names: Sequence[str], title: str) -> tuple[Figure, Axes]:
    """Empty axes with a line for each name, from the top; the name stands above it, so it may be long."""
    figure = Figure(figsize=(7.2, 1.1 + 0.52 * len(names)), dpi=72, layout="constrained")
    axes = figure.subplots()
    _prepare(axes)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.set_xlabel(title, color=_INK, fontsize=SIZE)
    for place, name in enumerate(names):
        axes.text(
            0.0,
            place - 0.3,
            _shortened(name, 3 * LONGEST),
            transform=axes.get_yaxis_transform(),
            color=_INK,
            fontsize=SIZE,
            parse_math=False,
        )
    return figure, axes


def _mark(axes: Axes, at: tuple[float, float], colour: str, marker: str, fill: Any) -> None:
    axes.plot(*at, marker=marker, markersize=2 * RADIUS, color=colour, fillstyle=fill, markerfacecoloralt="none")


def _key(marker: str, colour: str, fill: Any = "full") -> Line2D:
    look: dict[str, Any] = {"color": colour, "fillstyle": fill, "markerfacecoloralt": "none"}
    return Line2D([], [], linestyle="", marker=marker, markersize=7, **look)


def _legend(figure: Figure, handles: list[Line2D], names: list[str]) -> None:
    # Matplotlib keeps names that start with an underscore to itself.
    shown = [f"\N{ZERO WIDTH SPACE}{_shortened(name, LONGEST)}" for name in names]
    columns = max(1, min(len(shown), 100 // (6 + max(map(len, shown)))))
    legend = figure.legend(handles, shown, loc="outside upper left", ncols=columns, frameon=False, fontsize=SIZE)
    for each in legend.get_texts():
        each.set_parse_math(False)
        each.set_color(_INK)


def _logarithmic(axes: Axes, axis: str, values: Sequence[float]) -> None:
    """Where the values spread so far that round numbers lie between them."""
    if min(values) > 0 and max(values) > 5 * min(values):
        axes.set_xscale("log") if axis == "x" else axes.set_yscale("log")
        _ticks(axes, axis)


def _ticks(axes: Axes, axis: str) -> None:
    """1, 2 and 5 of each decade of a logarithmic axis."""
    ticked = axes.xaxis if axis == "x" else axes.yaxis
    ticked.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ticked.set_major_formatter(StrMethodFormatter("{x:g}"))
    ticked.set_minor_formatter(NullFormatter())


def _name(axes: Axes, points: list[_Point]) -> bool:
    """Write each model's name once, beside its first marker. Whether all of them have found room."""
    firsts = {model(row): at for row, at in reversed(points)}
    look: dict[str, Any] = {"color": _INK, "fontsize": SIZE, "ha": "center", "va": "center", "parse_math": False}
    names = [_shortened(name, LONGEST) for name in firsts]
    sizes = np.array([_extent(axes, name, look) for name in names])
    centres = axes.transData.transform(list(firsts.values()))
    every = axes.transData.transform([at for _, at in points])
    frame = np.array(axes.get_window_extent().padded(-2).extents)
    places = offsets(centres, sizes, every, RADIUS, frame)
    for name, at, place, size in zip(names, firsts.values(), places, sizes, strict=True):
        if place is None:
            continue
        nearest = np.clip(0, place - size / 2, place + size / 2)
        line = {"arrowstyle": "-", "color": _INK, "alpha": 0.4, "linewidth": 0.6, "shrinkA": 0, "shrinkB": RADIUS}
        far = np.hypot(*nearest) > RADIUS + BESIDE
        axes.annotate(name, at, tuple(place), textcoords="offset points", arrowprops=line if far else None, **look)
    return not any(place is None for place in places)


def _extent(axes: Axes, words: str, look: dict[str, Any]) -> tuple[float, float]:
    """Width and height in points, with a little room around."""
    drawn = axes.text(0, 0, words, **look)
    box = drawn.get_window_extent()
    drawn.remove()
    return box.width + 4, box.height + 2


def _shortened(words: str, most: int) -> str:
    """With what tells names apart: how they start and how they end."""
    return words if len(words) <= most else f"{words[: most // 2]}\N{HORIZONTAL ELLIPSIS}{words[1 - most // 2 :]}"


def _svg(figure: Figure, title: str) -> str:
    """The picture alone: no date, no address, and no names of parts but those that it refers to itself."""
    part = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(part, format="svg", transparent=True, metadata=nothing)
    text = part.getvalue()
    start = text.index("<svg")
    opening, _, rest = text[start:].partition(">")
    used = set(re.findall(r"#([\w-]+)", "".join(_TAG.findall(rest))))

    def tidied(tag: re.Match[str]) -> str:
        kept = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag[0])
        return kept.replace(_INK, "currentColor")

    return f'{opening} role="img" aria-label="{escape(title)}">{_STYLE}{_TAG.sub(tidied, rest)}'

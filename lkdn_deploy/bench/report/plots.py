"""The plots of a report as SVG, for a page or for files of their own.

The same report gives the same bytes. Texts remain text, which can be searched and read aloud. Everything without a
colour of its own takes the colour of the surrounding text, so plots are readable on light and dark backgrounds.
"""

import io
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from itertools import cycle
from typing import Any

from lkdn_deploy.bench.report.figures import by_name, model, operations, statistic, typical
from lkdn_deploy.bench.report.plain import with_plain_texts
from lkdn_deploy.bench.results import Report, Row
from lkdn_deploy.core.optional import needs

with needs("bench"):
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure  # pyplot would choose a window system, and keep every figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

# Okabe and Ito's palette without black, with yellow darkened: distinct for colour-blind readers, on light and on dark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C", "#A89A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
FILLS = ("full", "none", "left", "top")
"""Fill styles of a marker, by precision."""
BOUNDS = (("network", "<", "whole network"), ("pointwise", "d", "pointwise fused"), ("layers", ">", "layer by layer"))
"""Bounds of the roofline: field, marker, name."""
MOST_KINDS = 8
"""Most kinds of layers with a colour of their own."""
LONGEST = 36
"""Most characters of a name in a legend."""
SIZE = 9
"""Size of texts in points."""

_TAG = re.compile(r"<[^>]*>")
_INK = "#010203"
"""Placeholder for the colour of the surrounding text; nothing else has this colour."""
_STYLE = "<style>svg:root{color:#1a1a1a}@media (prefers-color-scheme:dark){svg:root{color:#e8e8e8}}</style>"
"""Text colour in a file of its own; inside a page the root is another element, and the page's colour applies."""


@contextmanager
def _drawing(name: str) -> Iterator[None]:
    """Keep texts as text and the output reproducible. Scripts missing from the fonts here are left to the reader's."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@_drawing("quality")
def quality_plot(report: Report) -> str | None:
    """Plot PSNR against latency, or latency against operations if there is no PSNR, with a marker for each row.

    Returns:
        ``None`` if no row has both values.
    """
    report = with_plain_texts(report)
    protocol = report.settings.protocol
    quality = any(row.psnr is not None for row in report.rows)
    points = []
    for row in report.rows:
        latency = typical(row.latency, protocol) if row.latency else None
        x, y = (latency, row.psnr) if quality else (row.cost.operations / 1e9 if row.cost else None, latency)
        if x is not None and y is not None:
            points.append((row, (x, y)))
    if not points:
        return None
    time = f"{statistic(protocol)} latency in ms"
    colours, markers, fills = _looks(report.rows)
    keys = [(name, _key("o", colour)) for name, colour in colours.items()]
    keys += [(backend, _key(marker, _INK)) for backend, marker in markers.items()]
    keys += [(precision, _key("o", _INK, fill)) for precision, fill in fills.items() if len(fills) > 1]
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    _prepare(axes)
    axes.set_xlabel(time if quality else f"{operations(protocol)} in G", color=_INK, fontsize=SIZE)
    axes.set_ylabel("PSNR in dB" if quality else time, color=_INK, fontsize=SIZE)
    axes.margins(0.12)
    axes.grid(color=_INK, alpha=0.15, linewidth=0.6)
    _logarithmic(axes, "x", [x for _, (x, _) in points])
    if not quality:
        _logarithmic(axes, "y", [y for _, (_, y) in points])
    for row, at in points:
        _mark(axes, at, colours[model(row)], markers[row.backend], fills[row.precision])
    _legend(figure, keys)
    return _svg(figure, "PSNR against latency" if quality else "Latency against operations")


@_drawing("kinds")
def kinds_plot(report: Report) -> str | None:
    """Plot the milliseconds in each kind of layer, with a bar for each row that has them.

    Returns:
        ``None`` if no row has any.
    """
    report = with_plain_texts(report)
    rows = {name: row for name, row in by_name(report.rows).items() if row.kinds}
    if not rows:
        return None
    kinds = _kind_colours(rows.values())
    figure, axes = _lines(list(rows), "ms in each kind of layer, by the engine's profiler")
    for place, row in enumerate(rows.values()):
        left = 0.0
        for kind, colour in kinds.items():
            others = sum(row.kinds[each] for each in row.kinds if each not in kinds)
            width = row.kinds.get(kind, 0.0) if kind else others
            axes.barh(place, width, 0.42, left, color=colour, edgecolor="none")
            left += width
        look: dict[str, Any] = {"color": _INK, "fontsize": SIZE, "va": "center"}
        axes.annotate(f"{left:.3g}", (left, place), (4, 0), textcoords="offset points", **look)
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    _legend(figure, [(kind or "others", _key("s", colour)) for kind, colour in kinds.items()])
    return _svg(figure, "Time in each kind of layer")


@_drawing("roofline")
def roofline_plot(report: Report) -> str | None:
    """Plot measured latencies beside the least ones for three degrees of fusion, with a line for each row.

    Returns:
        ``None`` if no row has both.
    """
    report = with_plain_texts(report)
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
    keys = [(name, _key(marker, _INK, "none")) for _, marker, name in BOUNDS]
    _legend(figure, [*keys, ("measured: filled", _key("o", _INK))])
    return _svg(figure, "Measured latency and the roofline's bounds")


def _looks(rows: Iterable[Row]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return a colour for each model, a marker for each backend, a fill for each precision: the same in every plot."""
    rows = tuple(rows)
    models, backends = dict.fromkeys(map(model, rows)), dict.fromkeys(row.backend for row in rows)
    precisions = dict.fromkeys(row.precision for row in rows)
    colours: Sequence[str] = COLOURS
    if len(models) > len(COLOURS):
        colours = [to_hex(colour) for colour in mpl.colormaps["turbo"].resampled(len(models))(range(len(models)))]
    return (
        dict(zip(models, colours, strict=False)),
        dict(zip(backends, cycle(MARKERS), strict=False)),
        dict(zip(precisions, cycle(FILLS), strict=False)),
    )


def _kind_colours(rows: Iterable[Row]) -> dict[str, str]:
    """Return a colour for each kind of layer, longest total time first; the empty kind stands for all others."""
    sums: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        for kind, time in row.kinds.items():
            sums[kind] += time
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
    """Make empty axes with a line for each name, from the top; names stand above their lines, so they may be long."""
    figure = Figure(figsize=(7.2, 1.1 + 0.52 * len(names)), layout="constrained")
    axes = figure.subplots()
    _prepare(axes)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.set_xlabel(title, color=_INK, fontsize=SIZE)
    look: dict[str, Any] = {"color": _INK, "fontsize": SIZE, "parse_math": False}
    for place, name in enumerate(names):
        words = _shortened(name, 3 * LONGEST)
        axes.text(0.0, place - 0.3, words, transform=axes.get_yaxis_transform(), **look)
    return figure, axes


def _mark(axes: Axes, at: tuple[float, float], colour: str, marker: str, fill: Any) -> None:
    axes.plot(*at, marker=marker, markersize=8, color=colour, fillstyle=fill, markerfacecoloralt="none")


def _key(marker: str, colour: str, fill: Any = "full") -> Line2D:
    look: dict[str, Any] = {"color": colour, "fillstyle": fill, "markerfacecoloralt": "none"}
    return Line2D([], [], linestyle="", marker=marker, markersize=7, **look)


def _legend(figure: Figure, keys: Sequence[tuple[str, Line2D]]) -> None:
    """Add a legend above the axes, for which the figure grows."""
    # Matplotlib hides names that start with an underscore.
    shown = [f"\N{ZERO WIDTH SPACE}{_shortened(name, LONGEST)}" for name, _ in keys]
    columns = max(1, min(len(shown), 100 // (6 + max(map(len, shown)))))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.19 * (len(shown) // columns))
    handles = [handle for _, handle in keys]
    legend = figure.legend(handles, shown, loc="outside upper left", ncols=columns, frameon=False, fontsize=SIZE)
    for each in legend.get_texts():
        each.set_parse_math(False)
        each.set_color(_INK)


def _logarithmic(axes: Axes, axis: str, values: Sequence[float]) -> None:
    """Make an axis logarithmic if its values spread so far that round numbers lie between them."""
    if min(values) > 0 and max(values) > 5 * min(values):
        axes.set_xscale("log") if axis == "x" else axes.set_yscale("log")
        _ticks(axes, axis)


def _ticks(axes: Axes, axis: str) -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis."""
    ticked = axes.xaxis if axis == "x" else axes.yaxis
    ticked.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ticked.set_major_formatter(StrMethodFormatter("{x:g}"))
    ticked.set_minor_formatter(NullFormatter())


def _shortened(words: str, most: int) -> str:
    """Cut the middle of a long name; names usually differ at their beginnings and ends."""
    return words if len(words) <= most else f"{words[: most // 2]}\N{HORIZONTAL ELLIPSIS}{words[1 - most // 2 :]}"


def _svg(figure: Figure, title: str) -> str:
    """Write a figure without date, address and ids, except for ids that it refers to itself."""
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

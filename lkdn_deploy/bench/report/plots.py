"""The plots of a report as SVG, for a page or for files of their own.

The same report gives the same bytes. Texts remain text, which can be searched and read aloud. Everything without a
colour of its own takes the colour of the surrounding text, so plots are readable on light and dark backgrounds.
"""

import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from html import escape
from itertools import cycle
from typing import Any

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

_TAG = re.compile(r"<[^>]*>")
_INK = "#010203"
"""Placeholder for the colour of the surrounding text; nothing else has this colour."""
_SIZE = 9  # of texts, in points
_TEXT: dict[str, Any] = {"color": _INK, "fontsize": _SIZE}
_STYLE = "<style>svg:root{color:#1a1a1a}@media (prefers-color-scheme:dark){svg:root{color:#e8e8e8}}</style>"
"""Text colour in a file of its own; inside a page the root is another element, and the page's colour applies."""


def _as_svg(draw: Callable[[Report], tuple[str, Figure] | None]) -> Callable[[Report], str | None]:
    """Turn a function that draws a figure with a title, or nothing, into one that returns the drawing as SVG."""

    @wraps(draw)
    def plot(report: Report) -> str | None:
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": draw.__name__}), warnings.catch_warnings():
            # Scripts that the fonts here lack are left to the reader's.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            drawn = draw(with_plain_texts(report))
            return drawn and _svg(*drawn)

    return plot


@_as_svg
def quality_plot(report: Report) -> tuple[str, Figure] | None:
    """Plot PSNR against latency, or latency against operations if there is no PSNR, if any row has both."""
    protocol = report.settings.protocol
    quality = any(row.psnr is not None for row in report.rows)
    points = []
    for row in report.rows:
        latency = row.typical(protocol)
        x, y = (latency, row.psnr) if quality else (row.cost.operations / 1e9 if row.cost else None, latency)
        if x is not None and y is not None:
            points.append((row, x, y))
    if not points:
        return None
    time = f"{protocol.statistic} latency in ms"
    figure, axes = _axes(4.6, time if quality else f"{protocol.operations} in G", "both")
    axes.set_ylabel("PSNR in dB" if quality else time, **_TEXT)
    axes.margins(0.12)
    _, xs, ys = zip(*points, strict=True)
    for axis, values in (("x", xs), ("y", () if quality else ys)):
        # Only where values spread so far that round numbers lie between them.
        if values and min(values) > 0 and max(values) > 5 * min(values):
            _make_logarithmic(axes, axis)
    colours, markers, fills = _looks(report.rows)
    for row, x, y in points:
        _mark(axes, (x, y), colours[row.network], markers[row.backend], fills[row.precision])
    keys = [(name, _key("o", colour)) for name, colour in colours.items()]
    keys += [(backend, _key(marker, _INK)) for backend, marker in markers.items()]
    keys += [(precision, _key("o", _INK, fill)) for precision, fill in fills.items() if len(fills) > 1]
    _legend(figure, keys)
    return "PSNR against latency" if quality else "Latency against operations", figure


@_as_svg
def kinds_plot(report: Report) -> tuple[str, Figure] | None:
    """Plot the milliseconds in each kind of layer, with a bar for each row that has them, if any."""
    rows = {name: row for name, row in report.by_name().items() if row.kinds}
    if not rows:
        return None
    sums: Counter[str] = Counter()
    for row in rows.values():
        sums.update(row.kinds)
    names = sorted(sums, key=lambda kind: (-sums[kind], kind))  # longest total time first
    if len(names) > MOST_KINDS:
        names = [*names[: MOST_KINDS - 1], ""]  # for all others
    kinds = dict(zip(names, COLOURS, strict=False))
    figure, axes = _lines(list(rows), "ms in each kind of layer, by the engine's profiler")
    for place, row in enumerate(rows.values()):
        left = 0.0
        for kind, colour in kinds.items():
            others = sum(row.kinds[each] for each in row.kinds if each not in kinds)
            width = row.kinds.get(kind, 0.0) if kind else others
            axes.barh(place, width, 0.42, left, color=colour, edgecolor="none")
            left += width
        axes.annotate(f"{left:.3g}", (left, place), (4, 0), textcoords="offset points", va="center", **_TEXT)
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    _legend(figure, [(kind or "others", _key("s", colour)) for kind, colour in kinds.items()])
    return "Time in each kind of layer", figure


@_as_svg
def roofline_plot(report: Report) -> tuple[str, Figure] | None:
    """Plot measured latencies beside the least ones for three degrees of fusion, for each row that has both, if any."""
    rows = {name: row for name, row in report.by_name().items() if row.bounds and row.latency}
    if not rows:
        return None
    figure, axes = _lines(list(rows), "ms, and the least that the roofline allows")
    colours, markers, _ = _looks(report.rows)
    every: list[float] = []
    for place, row in enumerate(rows.values()):
        measured = row.typical(report.settings.protocol) or 0.0
        bounds = [float(getattr(row.bounds, field)) for field, *_ in BOUNDS]
        every += [measured, *bounds]
        axes.plot([min(*bounds, measured), max(*bounds, measured)], [place] * 2, color=_INK, alpha=0.35, linewidth=1)
        for bound, (_, marker, _) in zip(bounds, BOUNDS, strict=True):
            _mark(axes, (bound, place), _INK, marker, "none")
        _mark(axes, (measured, place), colours[row.network], markers[row.backend], "full")
    low, high = min(every) / 1.4, max(every) * 1.4
    _make_logarithmic(axes, "x")
    axes.set_xlim(low / max(1.0, 5 / (high / low)), high)
    keys = [(name, _key(marker, _INK, "none")) for _, marker, name in BOUNDS]
    _legend(figure, [*keys, ("measured: filled", _key("o", _INK))])
    return "Measured latency and the roofline's bounds", figure


def _looks(rows: Sequence[Row]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return a colour for each model, a marker for each backend, a fill for each precision: the same in every plot."""
    models = dict.fromkeys(row.network for row in rows)
    colours: Sequence[str] = COLOURS
    if len(models) > len(COLOURS):
        colours = [to_hex(colour) for colour in mpl.colormaps["turbo"].resampled(len(models))(range(len(models)))]
    return (
        dict(zip(models, colours, strict=False)),
        dict(zip(dict.fromkeys(row.backend for row in rows), cycle(MARKERS), strict=False)),
        dict(zip(dict.fromkeys(row.precision for row in rows), cycle(FILLS), strict=False)),
    )


def _axes(height: float, title: str, grid: Any) -> tuple[Figure, Axes]:
    """Make a figure of a height in inches with empty axes, a title of the x axis, and a grid on the axes ``grid``."""
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(colors=_INK, which="both", labelsize=_SIZE)
    axes.grid(axis=grid, color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_xlabel(title, **_TEXT)
    return figure, axes


def _lines(names: Sequence[str], title: str) -> tuple[Figure, Axes]:
    """Make empty axes with a line for each name, from the top; names stand above their lines, so they may be long."""
    figure, axes = _axes(1.1 + 0.52 * len(names), title, "x")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.5, -0.7)
    for place, name in enumerate(names):
        words = _shortened(name, 3 * LONGEST)
        axes.text(0.0, place - 0.3, words, transform=axes.get_yaxis_transform(), parse_math=False, **_TEXT)
    return figure, axes


def _mark(axes: Axes, at: tuple[float, float], colour: str, marker: str, fill: Any) -> None:
    axes.plot(*at, marker=marker, markersize=8, color=colour, fillstyle=fill, markerfacecoloralt="none")


def _key(marker: str, colour: str, fill: Any = "full") -> Line2D:
    look: dict[str, Any] = {"linestyle": "", "markersize": 7, "markerfacecoloralt": "none"}
    return Line2D([], [], marker=marker, color=colour, fillstyle=fill, **look)


def _legend(figure: Figure, keys: Iterable[tuple[str, Line2D]]) -> None:
    """Add a legend above the axes, for which the figure grows."""
    names, handles = zip(*keys, strict=True)
    # Matplotlib hides names that start with an underscore.
    shown = [f"\N{ZERO WIDTH SPACE}{_shortened(name, LONGEST)}" for name in names]
    columns = max(1, min(len(shown), 100 // (6 + max(map(len, shown)))))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.19 * (len(shown) // columns))
    legend = figure.legend(handles, shown, loc="outside upper left", ncols=columns, frameon=False, fontsize=_SIZE)
    for each in legend.get_texts():
        each.set_parse_math(False)
        each.set_color(_INK)


def _make_logarithmic(axes: Axes, name: str) -> None:
    """Make an axis logarithmic, with labels at 1, 2 and 5 of each decade."""
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _shortened(words: str, most: int) -> str:
    """Cut the middle of a long name; names usually differ at their beginnings and ends."""
    return words if len(words) <= most else f"{words[: most // 2]}\N{HORIZONTAL ELLIPSIS}{words[1 - most // 2 :]}"


def _svg(title: str, figure: Figure) -> str:
    """Write a figure without date, address and ids, except for ids that it refers to itself."""
    part = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(part, format="svg", transparent=True, metadata=nothing)
    text = part.getvalue()
    opening, _, rest = text[text.index("<svg") :].partition(">")
    used = set(re.findall(r"#([\w-]+)", "".join(_TAG.findall(rest))))

    def tidied(tag: re.Match[str]) -> str:
        kept = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", tag[0])
        return kept.replace(_INK, "currentColor")

    return f'{opening} role="img" aria-label="{escape(title)}">{_STYLE}{_TAG.sub(tidied, rest)}'

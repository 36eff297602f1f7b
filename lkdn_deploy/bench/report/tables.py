"""A report's tables, in cells: what is shown, however it is shown."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import fmean, median

from lkdn_deploy.bench.report.facts import NONE
from lkdn_deploy.bench.report.figures import INTERVAL, by_name, model, operations, roofline_share, size, typical
from lkdn_deploy.bench.report.table_layout import Column, Table
from lkdn_deploy.bench.results import Latency, Protocol, Report, Row

_NAMES = (Column("model", name=True), Column("backend", name=True), Column("precision", "prec.", name=True))
_RATIO, _PSNR, _MEMORY, _ROOF = "over the first row's", "PSNR, dB", "peak memory, MiB", "share of the roofline, %"
_Cells = tuple[Column, list[str]]
"""A column and its cell in each row."""


def latency_table(report: Report) -> Table:
    """A line a row: how long it takes, beside the first row, and what else is measured of it.

    Columns of which no row has anything are left out.
    """
    protocol, rows = report.settings.protocol, report.rows
    times = [typical(row.latency, protocol) if row.latency else None for row in rows]
    shown = _decimals(times, digits=3, fewest=1)
    if protocol is Protocol.NTIRE_2023:
        columns: list[_Cells] = [(Column("mean, ms", "mean"), [_number(time, shown) for time in times])]
    else:
        spans = [(row.latency.p5, row.latency.p95) if row.latency else None for row in rows]
        columns = [
            (Column("median, ms", "median"), [_number(time, shown) for time in times]),
            (Column("5 % to 95 %, ms", "[p5..p95]", close=True), [_between(span, "..", shown) for span in spans]),
        ]
    ratios = [row.latency.ratio if row.latency else None for row in rows]
    intervals = [(ratio.low, ratio.high) if ratio else None for ratio in ratios]
    fine = _decimals([ratio.value if ratio else None for ratio in ratios], digits=2, fewest=2)
    columns += [
        (Column(_RATIO, "ratio"), _ratios(rows, fine)),
        (
            Column(f"{INTERVAL} interval", f"[{INTERVAL}]", close=True),
            [_between(each, ", ", fine) for each in intervals],
        ),
        (Column(_PSNR, "PSNR"), [_number(row.psnr, 2) for row in rows]),
        (Column(_MEMORY, "MiB"), [_number(row.memory.peak_mib if row.memory else None, 0) for row in rows]),
        (Column(_ROOF, "roof %"), [_percent(roofline_share(row, protocol)) for row in rows]),
    ]
    caption = f"Latency, {'mean' if protocol is Protocol.NTIRE_2023 else 'median'} in ms"
    table = _table(caption, rows, columns)
    return replace(table, legend=_legend(report, {column.title for column in table.columns}))


def cost_table(report: Report) -> Table | None:
    """A line a model: what is counted of it. ``None`` where nothing is."""
    costs = list(dict.fromkeys((model(row), row.cost) for row in report.rows if row.cost))
    if not costs:
        return None
    columns = (
        Column("model", name=True),
        Column("Params K"),
        Column(f"{operations(report.settings.protocol)} G"),
        Column("Acts M"),
        Column("Convs"),
        Column("counted at"),
    )
    cells = tuple(
        (
            name,
            f"{cost.parameters / 1e3:,.1f}",
            f"{cost.operations / 1e9:,.2f}",
            f"{cost.activations / 1e6:,.2f}",
            f"{cost.convolutions:,}",
            size(cost.input_size),
        )
        for name, cost in costs
    )
    return Table("Counted", columns, cells)


def quality_table(report: Report) -> Table | None:
    """A line a row and test set. ``None`` where no quality was measured."""
    cells = tuple(
        (
            *_named(row),
            each.name,
            f"{each.images:,}",
            "inf" if each.psnr is None else f"{each.psnr:.3f}",
            f"{each.ssim:.4f}",
        )
        for row in report.rows
        for each in row.quality
    )
    columns = (*_NAMES, Column("test set", name=True), Column("images"), Column(_PSNR), Column("SSIM"))
    return Table("Quality", columns, cells) if cells else None


def start_table(report: Report) -> Table | None:
    """A line a row: what came before the first time that counts, and what the times hold."""
    rows = [row for row in report.rows if row.latency]
    found = [row.latency for row in rows if row.latency]
    if not found:
        return None
    ntire = report.settings.protocol is Protocol.NTIRE_2023
    name, statistic = ("mean", fmean) if ntire else ("median", median)
    columns: list[_Cells] = [
        (Column("weights"), [row.weights for row in rows]),
        (Column("building, s"), [_number(each.building and each.building / 1e3, 1) for each in found]),
        (Column("opening, ms"), [_number(each.opening, 0) for each in found]),
        (Column("first run, ms"), [_number(each.first, 1) for each in found]),
        (Column("warm-up runs"), [_number(each.warm_up.runs if each.warm_up else None, 0) for each in found]),
        (Column("warm-up, s"), [_number(each.warm_up.seconds if each.warm_up else None, 1) for each in found]),
        (Column("samples"), [_number(len(each.samples), 0) for each in found]),
        (Column(f"{name} of the device alone, ms"), [_device(each, statistic) for each in found]),
        (Column("host copies"), [str(each.copies) for each in found]),
    ]
    return _table("How it was timed", rows, columns)


def head(report: Report) -> list[str]:
    """What was asked for, in words: protocol, input, threads."""
    settings = report.settings
    ntire = settings.protocol is Protocol.NTIRE_2023
    given = size(settings.input_size) if settings.input_size else "the images' own size"
    times = "" if ntire else f", {settings.rounds} {'round' if settings.rounds == 1 else 'rounds'}"
    threads = f"{settings.threads} {'thread' if settings.threads == 1 else 'threads'}"
    return [f"protocol {settings.protocol}", f"input {given}", f"{threads}{times}"]


def _legend(report: Report, titles: set[str]) -> tuple[str, ...]:
    """Of those of the latency table's columns that are there."""
    tests = dict.fromkeys(each.name for row in report.rows for each in row.quality)
    memories = dict.fromkeys(row.memory.device for row in report.rows if row.memory)
    roofs = dict.fromkeys(row.bounds.device for row in report.rows if row.bounds)
    rule = "on RGB, border 4" if report.settings.protocol is Protocol.NTIRE_2023 else "on luma, border as the scale"
    first = next(iter(by_name(report.rows)), "")
    meanings = {
        _RATIO: f"ratio: over the latency of {first}, with its {INTERVAL} bootstrap interval",
        _PSNR: f"PSNR: dB, mean over the images of {', '.join(tests)}, {rule}",
        _MEMORY: f"peak memory (MiB): the most that a run took, on {', '.join(memories)}",
        _ROOF: f"roofline (roof %): the time that {', '.join(roofs)} would need at its peaks with pointwise operations "
        "fused and nothing in caches, over the measured one",
    }
    return tuple(meaning for title, meaning in meanings.items() if title in titles)


def _table(caption: str, rows: Iterable[Row], columns: list[_Cells]) -> Table:
    """The rows' names and those columns that say something."""
    kept = [(column, cells) for column, cells in columns if any(cell != NONE for cell in cells)]
    kept = kept or columns[:1]
    cells = zip(*(cells for _, cells in kept), strict=True)
    lines = tuple((*_named(row), *line) for row, line in zip(rows, cells, strict=True))
    return Table(caption, (*_NAMES, *(column for column, _ in kept)), lines)


def _named(row: Row) -> tuple[str, str, str]:
    return model(row), row.backend, row.precision


def _decimals(values: Iterable[float | None], digits: int, fewest: int) -> int:
    """As many for the whole column as give the least value so many digits; three at most."""
    least = min((value for value in values if value), default=1.0)
    return min(max(digits - 1 - math.floor(math.log10(least)), fewest), 3)


def _number(value: float | None, decimals: int) -> str:
    return NONE if value is None else f"{value:,.{decimals}f}"


def _psnr(value: float | None) -> str:
    return "inf" if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.0f}"


def _between(span: tuple[float, float] | None, sign: str, decimals: int) -> str:
    return f"[{sign.join(_number(end, decimals) for end in span)}]" if span else NONE


def _ratios(rows: tuple[Row, ...], decimals: int) -> list[str]:
    """``~`` stands before what is not told apart from 1, the first row's own."""
    ratios = [row.latency.ratio if row.latency else None for row in rows]
    cells = [f"{'' if each.told_apart else '~'}{_number(each.value, decimals)}" if each else NONE for each in ratios]
    return [_number(1.0, decimals), *cells[1:]] if any(ratios) and rows[0].latency else cells


def _device(latency: Latency, statistic: Callable[[Iterable[float]], float]) -> str:
    return _number(statistic(latency.device_samples) if latency.device_samples else None, 3)

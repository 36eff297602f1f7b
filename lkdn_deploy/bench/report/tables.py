"""The tables of a report, independent of their form."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from lkdn_deploy.bench.challenge import CHALLENGES, scores
from lkdn_deploy.bench.machine import NONE
from lkdn_deploy.bench.measure.statistics import CONFIDENCE
from lkdn_deploy.bench.report.table_layout import Column, Table
from lkdn_deploy.bench.results import Protocol, Report, Row

INTERVAL = f"{100 * CONFIDENCE:g} %"
"""Confidence of the intervals of ratios."""
_NAMES = (Column("model", name=True), Column("backend", name=True), Column("precision", "prec.", name=True))
_SCORED = ("runtime", "FLOPs", "parameters")
_RATIO, _PSNR, _MEMORY, _ROOF = "over the first row's", "PSNR, dB", "peak memory, MiB", "share of the roofline, %"


def size(height_width: tuple[int, int]) -> str:
    """Format a size as WxH."""
    return "{1}x{0}".format(*height_width)


def head(report: Report) -> list[str]:
    """Return the settings in words: protocol, input, threads."""
    settings = report.settings
    given = size(settings.input_size) if settings.input_size else "the images' own size"
    words = [f"protocol {settings.protocol}", f"input {given}", _counted(settings.threads, "thread")]
    return words if settings.protocol.is_challenge else [*words, _counted(settings.rounds, "round")]


def latency_table(report: Report) -> Table:
    """Make the table of latencies and other measurements, a line for each row; empty columns are left out."""
    protocol, rows = report.settings.protocol, report.rows
    times = [row.typical(protocol) for row in rows]
    shown = _decimals(times, digits=3, fewest=1)
    spread = [row.latency if protocol is Protocol.STEADY else None for row in rows]
    ratios = [row.latency.ratio if row.latency else None for row in rows]
    fine = _decimals([ratio.value if ratio else None for ratio in ratios], digits=2, fewest=2)
    factors = [f"{'' if each.told_apart else '~'}{each.value:,.{fine}f}" if each else NONE for each in ratios]
    if any(ratios) and times[0]:
        factors[0] = _number(1.0, fine)
    shares = [row.roofline_share(protocol) for row in rows]
    columns = {
        Column(f"{protocol.statistic}, ms", protocol.statistic): [_number(time, shown) for time in times],
        Column("5 % to 95 %, ms", "[p5..p95]", close=True): [
            f"[{each.p5:,.{shown}f}..{each.p95:,.{shown}f}]" if each else NONE for each in spread
        ],
        Column(_RATIO, "ratio"): factors,
        Column(f"{INTERVAL} interval", f"[{INTERVAL}]", close=True): [
            f"[{each.low:,.{fine}f}, {each.high:,.{fine}f}]" if each else NONE for each in ratios
        ],
        Column(_PSNR, "PSNR"): [_number(row.psnr, 2) for row in rows],
        Column(_MEMORY, "MiB"): [_number(row.memory.peak_mib if row.memory else None, 0) for row in rows],
        Column(_ROOF, "roof %"): [_number(share and 100 * share, 0) for share in shares],
    }
    table = _table(f"Latency, {protocol.statistic} in ms", rows, columns)
    return replace(table, legend=_legend(report, {column.title for column in table.columns}))


def cost_table(report: Report) -> Table | None:
    """Make the table of counted costs, a line for each model; ``None`` if nothing was counted."""
    cells = tuple(
        (
            name,
            _number(cost.parameters, 1, 1e3),
            _number(cost.operations, 2, 1e9),
            _number(cost.activations, 2, 1e6),
            f"{cost.convolutions:,}",
            size(cost.input_size),
        )
        for name, cost in dict.fromkeys((row.network, row.cost) for row in report.rows)
        if cost
    )
    titles = ("Params K", f"{report.settings.protocol.operations} G", "Acts M", "Convs", "counted at")
    return Table("Counted", (Column("model", name=True), *map(Column, titles)), cells) if cells else None


def score_table(report: Report) -> Table | None:
    """Make the table of the challenge's scores, a line for each row; ``None`` if the protocol has none."""
    found = scores(report)
    if not any(found):
        return None
    challenge = CHALLENGES[report.settings.protocol]
    columns = {
        Column(name): [_number(getattr(each, field) if each else None, 2) for each in found]
        for name, field in (("runtime", "runtime"), ("FLOPs", "flops"), ("params", "parameters"), ("final", "final"))
    }
    weights = " + ".join(f"{weight} {name}" for weight, name in zip(challenge.weights, _SCORED, strict=True))
    least = " and ".join(f"{each:.2f}" for each in challenge.least_psnr)
    legend = (
        f"exp(2 x / x of {challenge.baseline} on the same engine); final: {weights}; less is better",
        f"the challenge ranks networks of {least} dB or more on its validation and test images",
    )
    return replace(_table("Score", report.rows, columns), legend=legend)


def quality_table(report: Report) -> Table | None:
    """Make the table of PSNR and SSIM, a line for each row and test set; ``None`` if nothing was rated."""
    cells = tuple(
        (*_named(row), each.name, f"{each.images:,}", _number(each.psnr, 3, none="inf"), f"{each.ssim:.4f}")
        for row in report.rows
        for each in row.quality
    )
    columns = (*_NAMES, Column("test set", name=True), Column("images"), Column(_PSNR), Column("SSIM"))
    return Table("Quality", columns, cells) if cells else None


def start_table(report: Report) -> Table | None:
    """Make the table of how each row was timed: what came before the samples, and what they include."""
    rows = [row for row in report.rows if row.latency]
    found = [row.latency for row in rows if row.latency]
    if not found:
        return None
    statistic = report.settings.protocol.statistic
    middle = fmean if statistic == "mean" else median
    columns = {
        Column("weights"): [row.weights for row in rows],
        Column("building, s"): [_number(each.building, 1, 1e3) for each in found],
        Column("opening, ms"): [_number(each.opening, 0) for each in found],
        Column("first run, ms"): [_number(each.first, 1) for each in found],
        Column("warm-up runs"): [_number(each.warm_up.runs if each.warm_up else None, 0) for each in found],
        Column("warm-up, s"): [_number(each.warm_up.seconds if each.warm_up else None, 1) for each in found],
        Column("samples"): [_number(len(each.samples), 0) for each in found],
        Column(f"{statistic} of the device alone, ms"): [
            _number(middle(each.device_samples) if each.device_samples else None, 3) for each in found
        ],
        Column("host copies"): [str(each.copies) for each in found],
    }
    return _table("How it was timed", rows, columns)


def _legend(report: Report, titles: set[str]) -> tuple[str, ...]:
    """Explain the columns of the latency table that are present."""
    tests = dict.fromkeys(each.name for row in report.rows for each in row.quality)
    memories = dict.fromkeys(row.memory.device for row in report.rows if row.memory)
    roofs = dict.fromkeys(row.bounds.device for row in report.rows if row.bounds)
    rule = "on RGB, border 4" if report.settings.protocol.is_challenge else "on luma, border as the scale"
    first = next(iter(report.by_name()), "")
    meanings = {
        _RATIO: f"ratio: over the latency of {first}, with its {INTERVAL} bootstrap interval",
        _PSNR: f"PSNR: dB, mean over the images of {', '.join(tests)}, {rule}",
        _MEMORY: f"peak memory (MiB): the most that a run allocated, on {', '.join(memories)}",
        _ROOF: f"roofline (roof %): the least time on {', '.join(roofs)} at its peak rates, with pointwise operations "
        "fused and nothing cached, over the measured time",
    }
    return tuple(meaning for title, meaning in meanings.items() if title in titles)


def _table(caption: str, rows: Iterable[Row], columns: Mapping[Column, Sequence[str]]) -> Table:
    """Make a table of the rows' names and the columns that are not empty."""
    kept = {column: cells for column, cells in columns.items() if set(cells) - {NONE}}
    kept = kept or dict(list(columns.items())[:1])
    lines = tuple((*_named(row), *cells) for row, *cells in zip(rows, *kept.values(), strict=True))
    return Table(caption, (*_NAMES, *kept), lines)


def _named(row: Row) -> tuple[str, str, str]:
    return row.network, row.backend, row.precision


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _decimals(values: Iterable[float | None], digits: int, fewest: int) -> int:
    """Return the decimals that show the least value of a column with this many digits: ``fewest`` to three."""
    least = min((value for value in values if value and value > 0), default=1.0)
    return min(max(digits - 1 - math.floor(math.log10(least)), fewest), 3)


def _number(value: float | None, decimals: int, unit: float = 1, none: str = NONE) -> str:
    return none if value is None else f"{value / unit:,.{decimals}f}"

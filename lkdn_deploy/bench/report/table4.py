"""The LKDN paper's Table 4, computational costs, beside the rows of a report that measured its networks."""

from statistics import fmean

from lkdn_deploy.bench.complexity.devices import PAPER_LATENCY
from lkdn_deploy.bench.machine import NONE
from lkdn_deploy.bench.report.table_layout import Column, Table
from lkdn_deploy.bench.results import Protocol, Report, Row
from lkdn_models.zoo import find

BASELINE, SCALE = "bsrn", 4
_COLUMNS = (
    *(Column(title, name=True) for title in ("model", "backend", "prec.")),
    *map(Column, ("DIV2K, dB", "Params K", "Multi-Adds G", "ms", f"over {BASELINE.upper()}")),
)


def paper_table(report: Report) -> Table | None:
    """Make the table; ``None`` unless BSRN and another of its networks were measured at x4 under ``steady``.

    The paper's lines come first. Decibels are on RGB less a border of 4 pixels, as the challenges measure them.
    """
    rows = [row for row in report.rows if row.scale == SCALE and row.latency]
    shared = [name for name in PAPER_LATENCY if any(row.model == name for row in rows)]
    if report.settings.protocol is not Protocol.STEADY or BASELINE not in shared or len(shared) < 2:
        return None
    return Table(
        "The paper's Table 4 and the same measured here",
        _COLUMNS,
        (*map(_printed, shared), *(_measured(row, rows) for row in rows)),
        (
            f"over {BASELINE.upper()}: the time over the one of {BASELINE.upper()} on the same engine and precision",
            "DIV2K: PSNR on the RGB values of its validation set, border 4, if it is among the test sets",
            "paper: on an RTX 3080, of an input and a precision that it does not state; its times are assigned to "
            "networks by the order of its tables",
        ),
    )


def _printed(name: str) -> tuple[str, ...]:
    printed = find(name, SCALE).printed
    cells = (printed.div2k, printed.parameters, printed.multi_adds) if printed else (None, None, None)
    latency = PAPER_LATENCY[name]
    over = latency / PAPER_LATENCY[BASELINE]
    return (f"{name} x{SCALE}", "paper", NONE, *(cell or NONE for cell in cells), f"{latency:.2f}", f"{over:.2f}")


def _measured(row: Row, rows: list[Row]) -> tuple[str, ...]:
    alike = (
        each.latency.median
        for each in rows
        if each.latency and (each.model, each.backend, each.precision) == (BASELINE, row.backend, row.precision)
    )
    baseline, time = next(alike, None), row.latency.median if row.latency else 0.0
    decibels = [each.psnr_rgb for each in row.quality if each.name.upper().startswith("DIV2K") and each.psnr_rgb]
    return (
        row.network,
        row.backend,
        row.precision,
        f"{fmean(decibels):.2f}" if decibels else NONE,
        f"{row.cost.parameters / 1e3:,.1f}" if row.cost else NONE,
        f"{row.cost.operations / 1e9:,.2f}" if row.cost else NONE,
        f"{time:,.2f}",
        f"{time / baseline:.2f}" if baseline else NONE,
    )

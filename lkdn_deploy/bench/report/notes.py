"""Notes that a reader of a report needs beside its figures."""

from collections.abc import Callable
from functools import partial

from lkdn_deploy.bench.complexity.devices import PAPER_LATENCY
from lkdn_deploy.bench.measure.statistics import LEAST_ROUNDS
from lkdn_deploy.bench.report.figures import by_name, model, not_told_apart
from lkdn_deploy.bench.results import Copies, Report, Row


def notes(report: Report) -> list[str]:
    """Return the notes that apply, as sentences."""
    rows = by_name(report.rows)
    found = []
    if report.interrupted:
        found.append("Interrupted: the run was stopped before everything was measured.")
    first = next(iter(rows), "")
    if same := ", ".join(not_told_apart(report)):
        found.append(f"~ Not told apart from {first}: {same}. The machine is too noisy for so small a difference.")
    if alone := _which(report, lambda row: row is not rows[first] and _without_ratio(row)):
        why = f"that takes {LEAST_ROUNDS} rounds or images" if rows[first].latency else f"{first} has no latency"
        found.append(f"No ratio of {alone}: {why}.")
    if unsettled := _which(report, _unsettled):
        found.append(f"Warm-up did not settle within its limits, so times may still have been drifting: {unsettled}.")
    if random := ", ".join(dict.fromkeys(model(row) for row in report.rows if row.weights == "random")):
        found.append(f"Random weights: {random}. They change the pictures, not the times.")
    found += _copies(report)
    found += _paper_latencies(report)
    found += [f"{name}: {row.problem}" for name, row in rows.items() if row.problem]
    found += [f"Left out: {each.what}: {each.why}" for each in report.left_out]
    found += [f"Failed: {each.what}: {each.why}. The figures are from the other images." for each in report.failed]
    return found


def _paper_latencies(report: Report) -> list[str]:
    """Quote the LKDN paper's latencies if one of its networks runs on a GPU."""
    if all(row.backend.endswith("cpu") for row in report.rows):
        return []
    named = {row.model for row in report.rows} & PAPER_LATENCY.keys()
    if not named:
        return []
    figures = ", ".join(f"{name} {PAPER_LATENCY[name]:.2f} ms" for name in sorted(named))
    return [
        f"The LKDN paper reports on an RTX 3080: {figures}. They are assigned to networks by the order of its tables, "
        "and the paper states neither input size nor precision."
    ]


def _copies(report: Report) -> list[str]:
    """Say which times include host copies, if a row runs on a device with memory of its own."""
    texts = {
        Copies.TIMED: "Copies between host and device are part of the time of",
        Copies.LEFT_OUT: "Copies between host and device are left out of the time of",
        Copies.NONE: "There are no copies, since the engine works in the host's memory:",
    }
    named = {kind: _which(report, partial(_has_copies, kind)) for kind in texts}
    if not named[Copies.TIMED] and not named[Copies.LEFT_OUT]:
        return []
    return [f"{text} {named[kind]}." for kind, text in texts.items() if named[kind]]


def _has_copies(kind: Copies, row: Row) -> bool:
    return row.latency is not None and row.latency.copies is kind


def _unsettled(row: Row) -> bool:
    return row.latency is not None and row.latency.warm_up is not None and not row.latency.warm_up.stable


def _without_ratio(row: Row) -> bool:
    return row.latency is not None and row.latency.ratio is None


def _which(report: Report, holds: Callable[[Row], bool]) -> str:
    """Return the names of the rows for which ``holds`` is true."""
    return ", ".join(name for name, row in by_name(report.rows).items() if holds(row))

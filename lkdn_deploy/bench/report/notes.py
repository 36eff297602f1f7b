"""What a reader must know beside the figures."""

from collections.abc import Callable
from functools import partial

from lkdn_deploy.bench.complexity.devices import PAPER_LATENCY
from lkdn_deploy.bench.measure.statistics import LEAST_ROUNDS
from lkdn_deploy.bench.report.figures import by_name, model, not_told_apart
from lkdn_deploy.bench.results import Copies, Report, Row


def notes(report: Report) -> list[str]:
    """Sentences, each only where it applies."""
    rows = by_name(report.rows)
    found = []
    if report.interrupted:
        found.append("Interrupted: not all that was asked for was measured.")
    first = next(iter(rows), "")
    if same := ", ".join(not_told_apart(report)):
        found.append(f"~ Not told apart from {first}: {same}. The machine is too noisy for so small a difference.")
    if alone := _which(report, lambda row: row is not rows[first] and _without_ratio(row)):
        why = f"that takes {LEAST_ROUNDS} rounds or images" if rows[first].latency else f"{first} has no latency"
        found.append(f"No ratio of {alone}: {why}.")
    if unsettled := _which(report, _unsettled):
        found.append(f"Warm-up did not settle before its bound, so times may still have been drifting: {unsettled}.")
    if random := ", ".join(dict.fromkeys(model(row) for row in report.rows if row.weights == "random")):
        found.append(f"Random weights: {random}. That changes what is drawn, not how long it takes.")
    found += _copies(report)
    found += _papers(report)
    found += [f"{name}: {row.problem}" for name, row in rows.items() if row.problem]
    found += [f"Left out: {each.what}: {each.why}" for each in report.left_out]
    found += [f"Failed: {each.what}: {each.why}. Figures are of the other images." for each in report.failed]
    return found


def _papers(report: Report) -> list[str]:
    """The LKDN paper's latencies, beside rows on a GPU of what it measured."""
    if all(row.backend.endswith("cpu") for row in report.rows):
        return []
    named = {row.model for row in report.rows} & PAPER_LATENCY.keys()
    figures = ", ".join(f"{name} {PAPER_LATENCY[name]:.2f} ms" for name in sorted(named))
    text = f"The LKDN paper has on an RTX 3080: {figures}. Which is whose follows the order of its tables, and it does "
    return [f"{text}not say at what size and precision."] if named else []


def _copies(report: Report) -> list[str]:
    """Of the rows that have a device of their own: beside these, those that have none too."""
    texts = {
        Copies.TIMED: "Copies between host and device are part of the time of",
        Copies.LEFT_OUT: "Copies between host and device are left out of the time of",
        Copies.NONE: "There are no copies, the engine works in the host's memory:",
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
    """The names of the rows of which it holds."""
    return ", ".join(name for name, row in by_name(report.rows).items() if holds(row))
